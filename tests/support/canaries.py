"""Canaries: secrets of a test, and a search for every spelling of them in whatever somebody else gets to see.

`Canaries` has the secrets, and `taps` adds those that are made on the way: keys of sessions, seals and tickets, tokens.
`texts_of`, `texts_of_error` and `texts_of_records` give the texts of objects, exceptions and log records. `Looker`
drives the tasks of a scenario (`support.scenarios`), and looks at all objects of the package each time that one of them
waits, and at every exception that one of them ends with. `Files` notes what is written to files and given to programs.
"""

import asyncio
import base64
import contextlib
import enum
import functools
import gc
import hashlib
import logging
import os
import pathlib
import re
import secrets
import sys
import traceback
import types
import urllib.parse

from support.build import COMPILED
from support.cancelling import PACKAGE, Cutter, _Driven

from acredssp.credentials import NTHash, Password, SmartCard
from acredssp.errors import CredSSPError
from acredssp.http import acceptor, initiator
from acredssp.mechanisms.ntlm import crypto
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor
from acredssp.mechanisms.ntlm.context import NTLMContext
from acredssp.proxy.plan import Access
from acredssp.secret import SecretBytes
from acredssp.wire import TSPasswordCreds, TSRemoteGuardPackageCred, TSSmartCardCreds
from acredssp.wire.ts_credentials import UnicodeString
from acredssp.wire.ts_request import TSRequest

HOLDERS = {
    (Password, "password"),
    (Password, "nt_hash"),
    (NTHash, "nt_hash"),
    (SmartCard, "pin"),
    (TSPasswordCreds, "password"),
    (TSSmartCardCreds, "pin"),
    (TSRemoteGuardPackageCred, "cred_buffer"),
    (Access, "secret"),
}
"""The attributes that are a secret: their owners exist to hand it over, and show it in no repr."""

SHOWN_BY_LENGTH = (UnicodeString, SecretBytes)

TESTS = str(pathlib.Path(__file__).parents[1])
"""The callers of the library: what they hold in their own variables is theirs."""

SHORTEST = 8
"""Characters that every form has at least, so that none is met by chance."""
LONGEST = 16
"""Characters of a form that are looked for: what truncates leaves just the beginning."""


# --- what a leak looks like ---


def forms(secret):
    """The texts that would give a secret away, each by its beginning: what truncates leaves just that."""
    if isinstance(secret, str):
        raws, texts = [secret.encode(coding) for coding in ("utf-8", "utf-16-le", "utf-16-be")], [secret]
        texts += [repr(secret)[1:-1], urllib.parse.quote(secret), secret.encode("unicode_escape").decode()]
    else:
        raws, texts = [bytes(secret)], []
    for raw in raws:
        texts += [raw.hex(), raw.hex().upper(), raw.hex(" "), raw.hex(":"), repr(raw)[2:-1], repr(list(raw))[1:-1]]
        texts += [raw.decode("latin-1"), *(encoded(raw, before) for before in range(3))]
    return {text[:LONGEST] for text in texts if len(text) >= SHORTEST}


def encoded(raw, before):
    """How base64 writes bytes that stand behind so many others: the characters that depend on none but them."""
    text = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
    return text[-(-before * 8 // 6) :][: len(raw) * 8 // 6 - 1]


class Canaries:
    """The secrets of a test; `leaks()` names those that a text gives away.

    Args:
        secrets: What is secret, by name; a text or bytes.
    """

    def __init__(self, **secrets):
        self.token = b""
        """A token of the conversation."""
        self.secrets = dict(secrets)
        self._known, self._forms = 0, {}

    def add(self, kind, secret):
        """Look for one more, which has to be long enough not to be met by chance."""
        if len(secret) >= 8 and secret not in self.secrets.values():
            self.secrets[f"{kind} {len(self.secrets)}"] = bytes(secret) if not isinstance(secret, str) else secret

    def note_tokens(self, *messages):
        """Look for what is in these TSRequests, too."""
        for message in messages:
            with contextlib.suppress(CredSSPError):
                self.note_request(TSRequest.decode(message))

    def note_request(self, request):
        """Look for what is in this TSRequest, too."""
        for field in ("nego_token", "pub_key_auth", "auth_info"):
            if value := getattr(request, field):
                self.token = value[-32:]  # NTLM's begin all alike
                self.add(field, self.token)

    def leaks(self, text):
        """The names of the secrets that a text gives away."""
        for name, secret in [*self.secrets.items()][self._known :]:
            self._known += 1
            for form in forms(secret):
                self._forms.setdefault(form[:SHORTEST], []).append((form, name))
        found, known = set(), self._forms
        for start in range(len(text) - SHORTEST + 1):
            if text[start : start + SHORTEST] in known:
                found.update(
                    name for form, name in known[text[start : start + SHORTEST]] if text.startswith(form, start)
                )
        return sorted(found)


@contextlib.contextmanager
def taps(canaries):
    """Note what is made on the way: NTLM's keys, the tokens of both sides, Kerberos' keys."""
    with contextlib.ExitStack() as stack:

        def tap(owner, name, note):
            original = owner.__dict__[name]
            function = original.__func__ if isinstance(original, classmethod) else original

            @functools.wraps(function)
            def tapped(*args, **kwargs):
                result = function(*args, **kwargs)
                note(args, result)
                return result

            setattr(owner, name, classmethod(tapped) if isinstance(original, classmethod) else tapped)
            stack.callback(setattr, owner, name, original)

        def note_keys(args, _):
            key = next(arg for arg in args if isinstance(arg, bytes))
            canaries.add("session key", key)
            for magic in (*crypto._CLIENT_TO_SERVER, *crypto._SERVER_TO_CLIENT):
                canaries.add("signing or sealing key", hashlib.md5(key + magic, usedforsecurity=False).digest())

        def note_base(args, _):
            canaries.add("session base key", next(arg for arg in args if isinstance(arg, bytes)))

        def note_authorization(token):
            if token[-32:].strip(b"\0"):  # a ClientHello may end with padding
                canaries.add("HTTP token", token[-32:])

        tap(NTLMContext, "_establish", note_keys)
        tap(NTLMAcceptor, "_accept", note_base)
        tap(secrets, "token_urlsafe", lambda _, token: canaries.add("token of a gateway", token))
        tap(initiator, "with_token", lambda args, _: note_authorization(args[0]))
        tap(acceptor, "authorization_token", lambda _, token: note_authorization(token or b""))
        if not COMPILED:  # compiled code calls these without asking the class
            tap(TSRequest, "decode", lambda _, request: canaries.note_request(request))
            tap(TSRequest, "encode", lambda args, _: canaries.note_request(args[0]))
        with contextlib.suppress(ImportError):
            from acredssp.mechanisms.kerberos.library import NativeContext  # noqa: PLC0415

            tap(NativeContext, "seal", lambda args, _: canaries.add("context key", args[0]._context.session_key))
        yield canaries


# --- where to look ---


def texts_of(roots):
    """(where, text) of everything that can be reached from `roots` by public attributes and containers."""
    seen, queue = set(), [(type(root).__name__, root, None) for root in roots]
    while queue:
        where, value, holder = queue.pop()
        if isinstance(value, str | bytes | bytearray | memoryview) and not isinstance(value, SHOWN_BY_LENGTH):
            if holder not in HOLDERS:
                yield where, value if isinstance(value, str) else bytes(value).decode("latin-1")
            continue
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            queue += [(f"{where}[{key!r}]", item, None) for key, item in value.items()]
        elif isinstance(value, list | tuple | set | frozenset):
            queue += [(f"{where}[{index}]", item, None) for index, item in enumerate(value)]
        else:
            yield where, repr(value)
            if not isinstance(value, UnicodeString):  # whose text is what str() is for
                yield where, str(value)
            queue += children(where, value)


def children(where, value):
    """Public attributes of what is ours; the standard library's own objects are looked at, not into."""
    if not type(value).__module__.startswith("acredssp") or isinstance(value, enum.Enum):
        return
    for name in dir(value):
        if name.startswith("_"):
            continue
        try:
            item = getattr(value, name)
        except Exception:  # noqa: BLE001, S112 - a property that has no value now
            continue
        yield f"{where}.{name}", item, (type(value), name)


def chain_of(error):
    """An exception with all that led to it, hidden from tracebacks or not."""
    links, queue = [], [error]
    while queue:
        link = queue.pop()
        if link is not None and not any(link is other for other in links):
            links.append(link)
            queue += [link.__cause__, link.__context__]
    return links


def texts_of_error(error, ours=lambda filename: not filename.startswith(TESTS)):
    """Everything that an exception, and what led to it, says of itself and keeps alive."""
    for link in chain_of(error):
        yield "traceback", "".join(traceback.format_exception(link))
        yield "repr", repr(link)
        yield "args", repr(link.args)
        yield "vars", repr(vars(link))
        yield from locals_of(link, ours)


def locals_of(error, ours=lambda filename: not filename.startswith(TESTS)):
    """(where, text) of the local variables in all frames of a traceback but those of these tests."""
    for frame in traceback.TracebackException.from_exception(error, capture_locals=True).stack:
        if ours(frame.filename):
            for name, text in (frame.locals or {}).items():
                yield f"{name} in {frame.name}", text


def texts_of_records(records):
    """(where, text) of log records."""
    for record in records:
        yield f"log {record.name}", record.getMessage()
        yield f"log {record.name}", repr(record.args)
        yield f"log {record.name}", repr({name: value for name, value in vars(record).items() if name != "args"})


class Records(logging.Handler):
    """Keeps the records of all loggers, from DEBUG on, while it is entered."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def __enter__(self):
        root = logging.getLogger()
        self._level = root.level
        root.setLevel(logging.DEBUG)
        root.addHandler(self)
        return self

    def __exit__(self, *_):
        root = logging.getLogger()
        root.removeHandler(self)
        root.setLevel(self._level)


# --- files and programs ---


class Files:
    """Notes what the package writes to files, by their contents as they are at the end or when they are removed, and
    what it gives to the programs that it starts: their arguments and environments.

    Attributes:
        paths: The files that were opened to be written.
        programs: What was given to each program, as a text.
    """

    _now = None
    _hooked = False

    def __init__(self):
        self.paths, self.removed, self.programs = set(), {}, []

    def __enter__(self):
        if not Files._hooked:
            sys.addaudithook(_audit)
            Files._hooked = True
        Files._now = self
        return self

    def __exit__(self, *_):
        Files._now = None

    def texts(self):
        """(where, text) of all that was written and given."""
        for path in sorted(self.paths):
            yield f"file {path}", contents_of(path)
        for path, text in self.removed.items():
            yield f"removed file {path}", text
        for program in self.programs:
            yield "a program", program

    def note(self, event, args):
        """Take an event of the interpreter."""
        if event == "open":
            path, mode, flags = args
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            )
            if writes and isinstance(path, str | bytes) and not os.fsdecode(path).startswith(("/dev/", "/proc/")):
                self.paths.add(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - no I/O here
        elif event == "os.remove" and isinstance(args[0], str) and os.path.abspath(args[0]) in self.paths:  # noqa: PTH100
            self.removed[args[0]] = contents_of(args[0])
        elif event in {"subprocess.Popen", "os.posix_spawn", "os.exec"}:
            self.programs.append(repr(args))


def contents_of(path):
    """The bytes of a file as a text; empty without one."""
    try:
        return pathlib.Path(path).read_bytes().decode("latin-1")
    except OSError:
        return ""


_NOTED = {"open", "os.remove", "subprocess.Popen", "os.posix_spawn", "os.exec"}
"""Audit events."""


def _audit(event, args):
    if event in _NOTED and Files._now is not None and _of_the_package(sys._getframe(1)):
        Files._now.note(event, args)


def _of_the_package(frame):
    """Whether the innermost caller of the package's or the tests' is not of the tests; a thread may have neither."""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith((PACKAGE, TESTS)):
            return file.startswith(PACKAGE)
        frame = frame.f_back
    return True


def with_children(pid):
    """A process and all that it has started."""
    parents = {}
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def given_to(pid, name="the program"):
    """(where, text) of the arguments and environments of a process and its children."""
    for each in with_children(pid):
        for what in ("cmdline", "environ"):
            yield f"{what} of {each} of {name}", pathlib.Path(f"/proc/{each}/{what}").read_bytes().decode("latin-1")


# --- scenarios ---


class _Told(_Driven):
    """A coroutine that tells of the exceptions that leave it, too."""

    def __init__(self, coroutine, suspended, failed):
        super().__init__(coroutine, suspended)
        self._failed = failed

    def send(self, value):
        return self._watched(super().send, value)

    def throw(self, *error):
        return self._watched(super().throw, *error)

    def _watched(self, call, *args):
        try:
            return call(*args)
        except StopIteration:
            raise
        except BaseException as error:
            self._failed(error)
            raise


_ADDRESS = re.compile(r"0x[0-9a-f]{8,16}\b")
"""What makes texts differ that are the same."""


class Looker(Cutter):
    """Looks at all objects of the package where a task of a run waits, and at each exception that a task ends with.

    Args:
        texts: Takes what was read: a text, and where it was read first. Secrets that come later are looked for in it.
        known: The identities of objects that were there before, which are left out.
        point: Where a task is cancelled; None for a run in which none is.

    Attributes:
        looks: How many times it has looked at the objects.
        errors: How many exceptions it has read.
    """

    def __init__(self, texts, known, point=None):
        super().__init__(point)
        self._texts, self._known = texts, known
        self.looks = self.errors = 0

    def factory(self, loop, coroutine, **options):
        return asyncio.Task(_Told(coroutine, self._suspended, self._failed), loop=loop, **options)

    def _suspended(self, coroutine, waits_for):
        before = len(self.seen)
        super()._suspended(coroutine, waits_for)
        if self.point is None and len(self.seen) > before and self.seen[-1].time == 1:
            self.looks += 1
            self._read(texts_of(each for each in objects_of_ours() if id(each) not in self._known))

    def _failed(self, error):
        self.errors += 1
        self._read(texts_of_error(error, lambda filename: filename.startswith(PACKAGE)))

    def _read(self, texts):
        for where, text in texts:
            self._texts.setdefault(_ADDRESS.sub("0x", text), where)


def objects_of_ours():
    """All objects of classes of the package, and the coroutines of its functions."""
    kinds, found = {}, []
    for each in gc.get_objects():
        kind = type(each)
        if kind not in kinds:
            module = str(getattr(kind, "__module__", ""))
            kinds[kind] = module.partition(".")[0] == "acredssp" and not issubclass(kind, type)
        if kinds[kind] or (kind is types.CoroutineType and each.cr_code.co_filename.startswith(PACKAGE)):
            found.append(each)
    return found
