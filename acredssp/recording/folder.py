"""A folder of records, with a file for each handshake, to which several processes may write at the same time.

Strangers decide how many handshakes there are and how long their messages are. So the number of files and their bytes
together are bounded. A folder that is full takes nothing more until somebody moves files away. No file is ever written
over, and only its owner can read it.

`acredssp.cli.record` calls it, in a thread.
"""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Final

from acredssp.recording.recording import Recording

fcntl: ModuleType | None
try:
    import fcntl
except ModuleNotFoundError:  # Windows, where a server has one process
    fcntl = None

__all__ = ["MOST_FILES", "MOST_FOLDER_BYTES", "RecordFolder"]

MOST_FILES: Final = 1_000
"""Files of a folder."""
MOST_FOLDER_BYTES: Final = 1 << 26
"""Bytes of all files of a folder together. A usual record has 10 KB."""
_NAME: Final = re.compile(r"\d{4,}\.json")


class RecordFolder:
    """A folder that is there, with the records `0001.json`, `0002.json` and so on.

    Args:
        path: The folder. Other files in it do not count.
        most_files: How many records it may hold.
        most_bytes: How many bytes these may have together.
    """

    def __init__(
        self, path: pathlib.Path, *, most_files: int = MOST_FILES, most_bytes: int = MOST_FOLDER_BYTES
    ) -> None:
        self.path = path
        self._most_files = most_files
        self._most_bytes = most_bytes

    def check(self) -> None:
        """Make a file in the folder and remove it, so that a folder that takes no files is noticed early.

        Raises:
            OSError: The folder takes no files.
        """
        trial = self.path / f".acredssp-{os.getpid()}"
        os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        trial.unlink()

    def add(self, record: Recording) -> pathlib.Path | None:
        """Write a record to a new file that its owner alone can read, and return the file.

        The call may wait for another process that writes to the folder.

        Returns:
            The file; None where the folder is full, or the record has no place in it any more.

        Raises:
            OSError: The file cannot be written.
        """
        content = record.to_json().encode()
        with self._turn():
            sizes = {
                int(entry.name.partition(".")[0]): entry.stat(follow_symlinks=False).st_size
                for entry in os.scandir(self.path)
                if _NAME.fullmatch(entry.name)
            }
            if len(sizes) >= self._most_files or sum(sizes.values()) + len(content) > self._most_bytes:
                return None
            path = self.path / f"{max(sizes, default=0) + 1:04}.json"
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
        return path

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep other processes from writing to the folder while the block runs."""
        if fcntl is None:
            yield
            return
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)
