"""A shell completes commands, options and the words to choose from, and nothing edits its startup files."""

import os
import shutil
import subprocess

import pytest
from support.command import COMMAND
from support.peers import DEADLINE


def ask(*words, **names):
    """Run the command as the script of bash does, with the cursor in the last word."""
    asked = {"_ACREDSSP_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [COMMAND], env=os.environ | asked | names, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("acredssp", "de"), ["decode", "demo"]),
        (("acredssp", "proxy", "k"), ["kick", "keys"]),
        (("acredssp", "login", "--password"), ["--password", "--password-stdin"]),
        (("acredssp", "serve", "--mechanism", "n"), ["negotiate", "ntlm"]),
        (("acredssp", "winrm", "host", "--she"), ["--shell"]),
    ],
)
def test_what_begins_so_is_offered(words, offered):
    assert ask(*words) == offered


def test_the_script_for_the_shell_works_in_it(tmp_path):
    script = 'eval "$($0 --show-completion)"\nCOMP_WORDS=(acredssp proxy c) COMP_CWORD=2\n'
    script += '_acredssp_completion "$0"\necho "${COMPREPLY[@]}"\n'
    file = tmp_path / "script.sh"
    file.write_text(f"{script}:\n", "utf-8")
    bash = shutil.which("bash")
    done = subprocess.run(
        [bash, "-c", f"source {file}; :", COMMAND],
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("check\n", "")


def test_there_is_no_option_that_edits_the_startup_files_of_shells(command):
    status, out, _ = command("--help")
    assert (status, "--install-completion" in out, "--show-completion" in out) == (0, False, True)
    status, _, err = command("--install-completion")
    assert (status, "no such option" in err.lower()) == (2, True)
