import json
import subprocess
import sys

import pytest

WITHOUT_THE_EXTRA = """
import sys
sys.modules[{absent!r}] = None
sys.argv = ["acredssp", "demo"]
from acredssp.cli import main
main()
"""


def python(*words):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("absent", ["typer", "rich"])
def test_without_the_extra_the_pip_command_is_printed_and_the_status_is_2(absent):
    done = python("-c", WITHOUT_THE_EXTRA.format(absent=absent))
    assert done.returncode == 2
    assert done.stderr == "the command line needs the extra `cli`: pip install 'acredssp[cli]'\n"
    assert not done.stdout


def test_another_missing_module_is_not_blamed_on_the_extra():
    done = python("-c", WITHOUT_THE_EXTRA.format(absent="cryptography"))
    assert done.returncode == 1
    assert "pip install" not in done.stderr


INTERRUPTED_EARLY = """
import sys

class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == "typer":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from acredssp.cli import main
main()
"""


def test_ctrl_c_while_the_command_is_imported_ends_it_without_a_traceback():
    done = python("-c", INTERRUPTED_EARLY)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_package_runs_as_a_module():
    done = python("-m", "acredssp", "login", "host", "--json", "-u", "")
    assert done.returncode == 2
    assert json.loads(done.stdout)["result"] == "usage"
    assert "Traceback" not in done.stderr


def test_the_library_needs_no_extra():
    done = python("-c", "import sys; sys.modules['typer'] = sys.modules['rich'] = None; import acredssp.aio.streams")
    assert done.returncode == 0, done.stderr
