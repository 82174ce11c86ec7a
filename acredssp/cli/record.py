"""`--record FILE`: handshakes in files, for a bug report or for Wireshark, without secrets unless they are asked for.

A record is as secret as the file that it goes to lets it be: files are readable by their owner alone. FILE may be a
folder that is there. Each handshake has a file of its own in it, and several processes write to it.
"""

import concurrent.futures
import contextlib
import dataclasses
import pathlib
import secrets
import threading
from collections.abc import Callable
from typing import Final

from rich.console import Console

from acredssp.aio import reason_of
from acredssp.carriage import Carriage
from acredssp.cli import render
from acredssp.cli.outcome import UsageError, expect_new
from acredssp.cli.output import OutputError, write_private
from acredssp.credentials import Credential, NTHash, Password
from acredssp.recording import (
    MOST_FILES,
    MOST_FOLDER_BYTES,
    RecordFolder,
    Recording,
    RecordingCarriage,
    to_pcapng,
    without_secrets,
)

__all__ = ["Records", "ServerRecords", "account_line"]

_MOST_FILES: Final = 100
"""A server writes so many numbered files at most, unless --record-most is given: strangers must not fill a disk."""
_MOST_WAITING: Final = 100
"""Records that wait to be written: a slow disk must not fill the memory."""
_CAPTURE: Final = ".pcapng"


class FolderFullError(OutputError):
    """A folder takes no more records."""


class Records:
    """The files that `--record` names, and what they hold of each handshake.

    Args:
        paths: The files and folders; empty where nothing is recorded. A folder is there already.
        with_secrets: Whether the records are whole.
        generated: Whether an account is made for the record.
        most: How many handshakes are recorded; None for a hundred in numbered files, and a thousand in a folder.

    Raises:
        UsageError: The options contradict each other.
    """

    def __init__(
        self, paths: list[pathlib.Path], *, with_secrets: bool, generated: bool, most: int | None = None
    ) -> None:
        needing = {"--with-secrets": with_secrets, "--generated-account": generated, "--record-most": most is not None}
        for option, given in needing.items():
            if given and not paths:
                raise UsageError(f"{option} needs --record FILE")
        self._paths = paths
        self._most_files = most or _MOST_FILES
        self._most_in_folder = most or MOST_FILES
        self._folders = [RecordFolder(path, most_files=self._most_in_folder) for path in paths if path.is_dir()]
        self._files = [path for path in paths if not path.is_dir()]
        self._with_secrets = with_secrets
        self._records: list[Recording] = []
        self._generated = Password(secrets.token_urlsafe(18), f"acredssp-{secrets.token_hex(4)}") if generated else None

    @property
    def generated(self) -> Password | None:
        """The account that was made for the record; None where there is none."""
        return self._generated

    @property
    def keylog(self) -> pathlib.Path | None:
        """The file for TLS's keys, in the first folder or beside the first file; None in a record without secrets."""
        if not self._with_secrets:
            return None
        first = self._paths[0]
        return first / "keylog" if first.is_dir() else first.with_name(f"{first.name}.keylog")

    def warn(self, err: Console) -> None:
        """Warn of a record with secrets."""
        if self._with_secrets:
            names = ", ".join(str(path) for path in (*self._paths, self.keylog))
            render.warning(err, f"whoever has these files can log on as the user in them: {names}")

    def begin(self) -> None:
        """Make the files, so that a file that cannot be written is noticed before there is a handshake.

        Raises:
            UsageError: A file cannot be written or is there already, or a folder takes no files.
        """
        for path in self._files:
            expect_new("--record", path)
        for folder in self._folders:
            try:
                folder.check()
            except OSError as error:
                raise UsageError(f"cannot write --record {folder.path}: {reason_of(error)}") from None

    def around(self, carriage: Carriage) -> Carriage:
        """Return a carriage that records what `carriage` carries, or `carriage` where nothing is recorded."""
        return RecordingCarriage(carriage, self._records.append) if self._paths else carriage

    def write(self, credential: Credential) -> None:
        """Write what a client's carriage has recorded.

        Raises:
            OutputError: A file cannot be written.
        """
        for record in self._records:
            self._write(record, account_line(credential), 1)
        self.clear()

    def clear(self) -> None:
        """Remove the files that `begin` has made and no handshake has filled."""
        for path in self._files:
            with contextlib.suppress(OSError):
                if path.is_file() and not path.stat().st_size:
                    path.unlink()

    def tell(self, err: Console) -> None:
        """Say where the record is."""
        for path in self._paths if self._records else ():
            render.note(err, f"the handshake is recorded in {path}")

    def _write(self, record: Recording, account: str | None, number: int) -> None:
        if self._with_secrets or self._is_generated(record):
            kept = dataclasses.replace(record, accounts=(account,) if account else ())
        else:
            kept = without_secrets(record)
        for folder in self._folders:
            self._add(folder, kept)
        for path in self._files if number <= self._most_files else ():
            named = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
            content = to_pcapng(kept) if path.suffix == _CAPTURE else kept.to_json().encode()
            try:
                write_private(named, content, anew=number > 1)  # nobody has named this file, so it may be anybody's
            except OSError as error:
                raise OutputError(f"cannot write --record {named}: {reason_of(error)}") from None

    def _add(self, folder: RecordFolder, record: Recording) -> None:
        try:
            written = folder.add(record)
        except OSError as error:
            raise OutputError(f"cannot write --record {folder.path}: {reason_of(error)}") from None
        if written is None:
            bounds = f"{self._most_in_folder:,} records of {MOST_FOLDER_BYTES >> 20} MiB together"
            raise FolderFullError(
                f"--record {folder.path} is full, and takes no more handshakes: a folder takes {bounds}: move them away"
            )

    def _is_generated(self, record: Recording) -> bool:
        """Whether the client of a record used the generated account."""
        claimed = record.claimed
        return self._generated is not None and claimed is not None and claimed[1] == self._generated.user


class ServerRecords(Records):
    """The same for a server: a file for each handshake, written in a thread of its own.

    In a folder these are as many as it takes; in the place of a file they are numbered. A connection
    over which nothing came has no file: health checks of load balancers must not use the files up.

    Args:
        paths: As for `Records`.
        with_secrets: As for `Records`.
        generated: As for `Records`.
        most: As for `Records`.
        account_of: Returns the line of a users file for a domain and a user; None for an unknown one.
        warn: Called with what goes wrong, in the thread.
    """

    def __init__(  # noqa: PLR0913 - all named
        self,
        paths: list[pathlib.Path],
        *,
        with_secrets: bool,
        generated: bool,
        most: int | None = None,
        account_of: Callable[[str, str], str | None],
        warn: Callable[[str], None],
    ) -> None:
        super().__init__(paths, with_secrets=with_secrets, generated=generated, most=most)
        self._account_of = account_of
        self._warn = warn
        self._taken = 0
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "records") if paths else None

    def check_shared(self) -> None:
        """Check that several processes can write the records: only a folder has a file for each of their handshakes.

        Raises:
            UsageError: A path is no folder.
        """
        if self._files:
            raise UsageError(
                f"--record {self._files[0]}: expected a folder that is there, since several workers write to it: make "
                "it by mkdir -m 700"
            )

    def around(self, carriage: Carriage, label: str = "") -> Carriage:
        """Do as `Records.around` does, with a label for the records."""
        return RecordingCarriage(carriage, self.take, label=label) if self._paths else carriage

    def take(self, record: Recording) -> None:
        """Write a record, soon; drop it where a hundred wait to be written."""
        if self._thread is None or not record.flights or (self._taken >= self._most_files and not self._folders):
            return
        if not self._waiting.acquire(blocking=False):
            return
        self._taken += 1
        self._thread.submit(self._take, record, self._taken)

    def end(self) -> None:
        """Wait until all records are written."""
        if self._thread is not None:
            self._thread.shutdown()
        self.clear()

    def _take(self, record: Recording, number: int) -> None:
        claimed = record.claimed
        try:
            self._write(record, self._account_of(*claimed) if claimed else None, number)
        except FolderFullError as error:
            if self._folders:
                self._warn(str(error))
            self._folders = []  # looking into a full folder for each handshake would help nobody
        except OSError as error:
            self._warn(str(error))
        except Exception as error:  # noqa: BLE001 - nobody asks the thread how it went
            self._warn(f"record {number} cannot be made: {type(error).__name__}")
        finally:
            self._waiting.release()


def account_line(credential: Credential | None) -> str | None:
    """Return the line of a users file for an account; None for a credential that no such line can hold."""
    match credential:
        case Password():
            return f"{credential.domain}:{credential.user}:{credential.password}"
        case NTHash():
            return f"{credential.domain}:{credential.user}:$NT${credential.nt_hash.hex()}"
    return None
