"""A program that is forked (`support.warm`) does what it does when it is started as usual."""

import os
import signal
import subprocess
import sys

import pytest
from support import warm
from support.peers import DEADLINE

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux alone tells how a grandchild ends")

SHOWS = """
import os, sys
print(__name__, sys.argv, os.getcwd(), os.environ.get("GIVEN"), os.environ.get("HOME"), sys.stdin.read())
print(sorted(os.listdir("/proc/self/fd"))[:3], sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.errors)
print(sys.stdout.line_buffering, sys.stderr.line_buffering, sys.stderr.errors, file=sys.stderr)
print(os.getsid(0) == os.getpid(), sys.flags.dev_mode)
"""
PROGRAMS = {
    "the command": ([warm.COMMAND, "--version"], {}),
    "its help": ([warm.COMMAND, "serve", "--help"], {}),
    "its usage": ([warm.COMMAND, "serve", "--nothing"], {}),
    "its module": ([sys.executable, "-m", "acredssp", "login"], {}),
    "a program": ([sys.executable, "-c", SHOWS, "a", "b c"], {"input": "given"}),
    "another environment": ([sys.executable, "-c", SHOWS], {"input": "", "env": {"GIVEN": "yes", "LC_ALL": "C.UTF-8"}}),
    "another folder": ([sys.executable, "-c", SHOWS], {"input": "", "cwd": "/"}),
    "a session of its own": ([sys.executable, "-c", SHOWS], {"input": "", "start_new_session": True}),
    "the interpreter's environment": ([sys.executable, "-c", SHOWS], {"input": "", "env": {"PYTHONDEVMODE": "1"}}),
    "a status": ([sys.executable, "-c", "import sys; sys.exit(7)"], {}),
    "a status in words": ([sys.executable, "-c", "import sys; sys.exit('why')"], {}),
    "an exception": ([sys.executable, "-c", "import atexit; atexit.register(print, 'end'); 1 / 0"], {}),
    "what runs at the end": ([sys.executable, "-c", "import atexit; atexit.register(print, 'end')"], {}),
    "a signal": ([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], {}),
    "another program": (["sh", "-c", "echo out; echo err >&2; exit 3"], {}),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_does_what_it_does_when_it_is_started(name):
    words, options = PROGRAMS[name]
    options = {"capture_output": True, "text": True, "timeout": DEADLINE} | options
    started = subprocess.run(words, check=False, **options)
    forked = warm.run(words, **options)
    assert (forked.returncode, forked.stdout) == (started.returncode, started.stdout)
    assert forked.stderr.splitlines()[-2:] == started.stderr.splitlines()[-2:]  # a traceback has more callers


def test_a_script_runs_beside_its_own_modules(tmp_path):
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n", encoding="utf-8")
    script = tmp_path / "script.py"
    script.write_text("import sys, beside\nprint(beside.NAME, sys.argv, __file__)\n", encoding="utf-8")
    words = [sys.executable, script, "a"]
    started = subprocess.run(words, capture_output=True, text=True, check=True)
    assert warm.run(words, capture_output=True, text=True, check=True).stdout == started.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_signal_ends_it(number):
    words = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(600)"]
    for start in (subprocess.Popen, warm.Warm):
        with start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            assert process.poll() is None
            process.send_signal(number)
            assert process.wait(DEADLINE) == process.poll() == -number


def test_waiting_for_it_has_an_end():
    with warm.Warm([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def test_it_keeps_no_descriptor_of_whoever_asked():
    first, second = os.pipe()
    with warm.Warm([sys.executable, "-c", "import os; print(len(os.listdir('/proc/self/fd')))"], stdout=-1) as process:
        assert int(process.stdout.read()) == 4  # the folder itself is the fourth
    os.close(first)
    os.close(second)


def test_a_status_that_is_no_success_can_be_asked_for():
    with pytest.raises(subprocess.CalledProcessError):
        warm.run([sys.executable, "-c", "raise SystemExit(3)"], check=True)
