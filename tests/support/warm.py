"""Programs in Python that import nothing anew: a process that has imported the packages forks them.

A start of `acredssp` takes 0.7 s of CPU, nearly all of it for imports, and a start of a client by requests and pyspnego
takes more. Tests start some 800 such programs. `Warm` and `run` are `subprocess.Popen` and `subprocess.run` for them.
They ask a process that has imported the packages (this module, run as a program) to fork one, which then gets its
arguments, environment, folder and streams. A program is started as usual if it needs what nobody can give it later: an
environment that the interpreter itself reads, other descriptors, another user, `preexec_fn`. tests/cli/test_main.py
and tests/test_ctrl_c.py start the command as usual.
"""

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("acredssp"))
"""The program of the command."""
CLIENTS = ("requests", "requests_credssp", "spnego", "gssapi", "krb5", "httpx", "uvloop")
"""What the clients in the tests are made of."""
_FOR_THE_INTERPRETER = ("COVERAGE", "GLIBC", "LANG", "LC_", "LD_", "MALLOC", "OPENSSL", "PYTHON")
"""The beginnings of the environment variables that the interpreter, or a library below it, reads once, at its start."""
_PLAIN = {("LC_ALL", "C.UTF-8")}
"""The variables among them that may differ from those of the tests, since `peers.Lab` sets them. Programs with them are
forked by a nursery that was started with them."""
_SPACES = {"--net": "net", "--mount": "mnt", "--uts": "uts"}
"""What Linux calls the namespaces that nsenter has options for."""
_C = ctypes.CDLL(None, use_errno=True)
_NUMBER = struct.Struct("=i")
_LONGEST = 1 << 18
"""Bytes of a request, most of which are its environment."""


class Warm(subprocess.Popen):
    """`subprocess.Popen`, which forks programs in Python from a process that has imported what they need."""

    _ended = None

    def _execute_child(
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, restore_signals, *others,
    ):  # fmt: skip
        environment = dict(os.environ if env is None else env)
        spaces, words = _namespaces([os.fspath(word) for word in args])
        plain = hasattr(os, "pidfd_open")  # Linux alone tells the nursery how a program ends
        plain = plain and not (executable or preexec_fn or pass_fds or shell or not close_fds or not restore_signals)
        plain = plain and (*others[:4], others[5]) == (None, None, None, -1, -1)
        settings = _read_at_the_start(environment)
        if not (plain and _is_python(words) and settings.items() ^ _read_at_the_start(os.environ).items() <= _PLAIN):
            super()._execute_child(
                args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
                p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, restore_signals, *others,
            )  # fmt: skip
            return
        streams = [given if given != -1 else own for own, given in enumerate((p2cread, c2pwrite, errwrite))]
        asked = {
            "words": words,
            "environment": environment,
            "folder": os.fspath(cwd or Path.cwd()),
            "session": others[4],
            "spaces": spaces,
        }
        sys.audit("subprocess.Popen", words[0], words, cwd, env)  # as the interpreter does
        self.pid, self._ended = _nursery(os.getpid(), tuple(sorted(settings.items()))).fork(asked, streams)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def _try_wait(self, flags):
        if self._ended is None:
            return super()._try_wait(flags)
        if flags and not select.select([self._ended], [], [], 0)[0]:
            return 0, 0
        with self._ended:
            said = self._ended.recv(_NUMBER.size)
        return self.pid, _NUMBER.unpack(said)[0] if said else signal.SIGKILL

    def _internal_poll(self, *args, **options):
        if self._ended is None:
            return super()._internal_poll(*args, **options)
        with self._waitpid_lock:
            if self.returncode is None:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)
        return self.returncode


def run(argv, *, input=None, timeout=None, capture_output=False, check=False, **options):  # noqa: A002 - as there
    """`subprocess.run` by `Warm`."""
    if input is not None:
        options["stdin"] = subprocess.PIPE
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Warm(argv, **options) as process:
        try:
            output, errors = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(argv, process.returncode, output, errors)
    if check:
        done.check_returncode()
    return done


def _namespaces(words):
    """The files of the namespaces that nsenter enters if it begins the words, and the program that it runs there."""
    if Path(words[0]).name != "nsenter" or not words[1].startswith("--target=") or "--" not in words:
        return [], words
    process, end = words[1].partition("=")[2], words.index("--")
    return [f"/proc/{process}/ns/{_SPACES[option]}" for option in words[2:end]], words[end + 1 :]


def _is_python(words):
    """Whether the words start what `_run` can run."""
    if words[0] == sys.executable:
        return words[1] == "-c" or words[1:3] == ["-m", "acredssp"] or words[1].endswith(".py")
    return words[0] == COMMAND


def _read_at_the_start(environment):
    return {name: value for name, value in environment.items() if name.startswith(_FOR_THE_INTERPRETER)}


@functools.cache
def _nursery(_process, settings):
    """The nursery for these settings. A process does not use the nursery of the process that it was forked from."""
    others = {name: value for name, value in os.environ.items() if name not in _read_at_the_start(os.environ)}
    return _Nursery(others | dict(settings))


class _Nursery:
    """A process that forks programs on request. The process ends once the tests that started it have ended."""

    def __init__(self, environment):
        self._asking, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asking.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], env=environment
            )

    def fork(self, asked, streams):
        """Have a program forked.

        Returns:
            Its process id, and a socket that tells its wait status once it has ended.
        """
        ended, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._lock:
            socket.send_fds(self._asking, [json.dumps(asked).encode()], [*streams, theirs.fileno()])
            return _NUMBER.unpack(self._asking.recv(_NUMBER.size))[0], ended


def _import():
    package = importlib.import_module("acredssp")
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, "acredssp.")]
    # This library reads the environment when it is imported, so each program imports the library by itself.
    sys.modules["prometheus_client"] = None
    for name in [*modules, *CLIENTS]:
        if not name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # a program that needs the module fails by itself
                importlib.import_module(name)
    del sys.modules["prometheus_client"]
    gc.collect()
    gc.freeze()


def _serve(asking):
    """Fork a program for each request. This function returns in the program alone, with the request and its streams."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(asking, selectors.EVENT_READ)
        while True:
            for key, _ready in waiting.select():
                if key.fileobj is asking:
                    request, descriptors, _flags, _address = socket.recv_fds(asking, _LONGEST, 4)
                    if not request:
                        os._exit(0)
                    pid = os.fork()
                    if pid == 0:
                        return json.loads(request), descriptors
                    for descriptor in descriptors[:3]:
                        os.close(descriptor)
                    asking.send(_NUMBER.pack(pid))
                    waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, descriptors[3]))
                else:
                    waiting.unregister(key.fileobj)
                    os.close(key.fileobj)
                    pid, told = key.data
                    with socket.socket(fileno=told) as telling, contextlib.suppress(OSError):
                        telling.send(_NUMBER.pack(os.waitpid(pid, 0)[1]))


def _become(asked, descriptors):
    """Give this process, which has been forked, what it would have got at a usual start."""
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if asked["session"]:
        os.setsid()
    for space in [os.open(name, os.O_RDONLY) for name in asked["spaces"]]:  # all before the first changes /proc
        assert _C.setns(space, 0) == 0, os.strerror(ctypes.get_errno())
        os.close(space)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__ = tuple(_standard_streams())


def _standard_streams():
    """What the interpreter makes of the first three descriptors when it starts."""
    unbuffered, encoding = isinstance(sys.__stdout__.buffer, io.RawIOBase), sys.__stdout__.encoding
    yield open(0, encoding=encoding, errors=sys.__stdin__.errors, closefd=False)  # noqa: SIM115 - it is kept
    for number, errors in ((1, sys.__stdout__.errors), (2, "backslashreplace")):
        raw = io.FileIO(number, "w", closefd=False)
        written = raw if unbuffered else io.BufferedWriter(raw)
        lines = not unbuffered and (number == 2 or raw.isatty())
        yield io.TextIOWrapper(written, encoding, errors, line_buffering=lines, write_through=unbuffered)


def _run(words):
    """Run what the words name as the interpreter would, up to the end of this process."""
    program, *arguments = words
    sys.orig_argv = words
    if not os.environ.get("PYTHONSAFEPATH"):
        named = program if program == COMMAND else arguments[0]
        sys.path.insert(0, "" if named in {"-c", "-m"} else str(Path(named).parent))
    if program == COMMAND:
        sys.argv = words
        importlib.import_module("acredssp.cli").main()
    elif arguments[0] == "-m":
        sys.argv = [program, *arguments[2:]]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif arguments[0] != "-c":
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
    else:
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})  # noqa: S102


def _end_by(run):
    """Run the program, and end this process as the interpreter does, but without destroying the objects of modules."""
    try:
        run()
        status = 0
    except SystemExit as ending:
        status = 0 if ending.code is None else ending.code
        if not isinstance(status, int):
            raise
    threading._shutdown()
    atexit._run_exitfuncs()
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    _import()
    with socket.socket(fileno=int(sys.argv[1])) as mine:
        program, given = _serve(mine)
    _become(program, given)
    _end_by(lambda: _run(program["words"]))
