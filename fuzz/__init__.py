"""Fuzzing: targets that any fuzzer can call, a runner on atheris, and a corpus that the tests replay.

`python -m fuzz list` names the targets, `python -m fuzz run TARGET` runs one, and `make fuzz` runs all of them.
"""
