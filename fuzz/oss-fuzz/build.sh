#!/bin/bash -eu
# What OSS-Fuzz runs in its container: one program for each target, with its dictionary and its corpus beside it.
# $SRC and $OUT are OSS-Fuzz's folders, compile_python_fuzzer is its program.

cd "$SRC/acredssp"
python3 -m pip install --upgrade '.[dev,fuzz]'

python3 -m fuzz export "$SRC/programs"
for program in "$SRC"/programs/fuzz_*.py; do
    compile_python_fuzzer "$program" --paths "$PWD" \
        --add-data "$PWD/tests/vectors:tests/vectors" --add-data "$PWD/fuzz/corpus:fuzz/corpus"
done
for kind in dict options zip; do
    cp "$SRC"/programs/*."$kind" "$OUT/"
done
