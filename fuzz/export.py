"""Writes what OSS-Fuzz builds from: for each target a program, its dictionary and its corpus."""

import hashlib
import pathlib
import zipfile

from fuzz import corpus
from fuzz.target import Target

__all__ = ["dictionary", "write"]

_PROGRAM = """from fuzz.single import main

if __name__ == "__main__":
    main({name!r})
"""


def dictionary(target: Target) -> str:
    """Return the target's words in the form of libFuzzer."""
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words)


def write(target: Target, folder: pathlib.Path) -> pathlib.Path:
    """Write the files of a target; return its program.

    The corpus is an archive with one file for each seed and each input of the corpus, as OSS-Fuzz wants it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"fuzz_{target.name.replace('-', '_')}"
    program = folder / f"{stem}.py"
    program.write_text(_PROGRAM.format(name=target.name), "ascii")
    (folder / f"{stem}.options").write_text(f"[libfuzzer]\nmax_len = {target.size}\nlen_control = 0\n", "ascii")
    if target.words:
        (folder / f"{stem}.dict").write_text(dictionary(target), "ascii")
    with zipfile.ZipFile(folder / f"{stem}_seed_corpus.zip", "w") as archive:
        for data in sorted({*target.seeds(), *(data for data, _ in corpus.read(target.name))}):
            archive.writestr(hashlib.sha256(data).hexdigest(), data)
    return program
