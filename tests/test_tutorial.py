"""A newcomer's path: from the built wheel in an empty environment to a logon, a server, a gateway and a command."""

import contextlib
import subprocess
import sys

from support import tutorial
from support.endpoints import PIN, server_config
from support.pages import ROOT, blocks_of
from support.peers import DEADLINE
from support.wsman_http import accepting
from support.wsman_toy import Toy

import acredssp

PAGE = (ROOT / "docs" / "first-winrm.md").read_text(encoding="utf-8")
ALICE = acredssp.Password("wonderland", "alice")


async def hostname(process):
    process.write("stdout", b"WIN\r\n")
    return 0


async def lookup(request):
    return ALICE if request.principal.user == "alice" else acredssp.Deny()


@contextlib.contextmanager
def windows():
    """A stand-in for the machine of the page about WinRM."""
    with accepting(Toy({"hostname": hostname}), server_config(lookup=lookup)) as port:
        root = f"http://127.0.0.1:{port}"
        yield {
            "http://win.example.com:5985": root,
            "HTTP/win.example.com": "HTTP/127.0.0.1",
            "win.example.com": f"{root}/wsman",
        }


def test_a_newcomer_gets_from_the_wheel_to_a_logon_a_server_a_gateway_and_a_command(tmp_path):
    """Nothing but the pages' own text is typed and saved, where there is no checkout."""
    programs, typed = tutorial.install(tmp_path), {}
    with windows() as names:
        for page in tutorial.PAGES:
            folder = tmp_path / page.replace("/", "-")
            folder.mkdir()
            typed[page] = tutorial.Newcomer(page, programs, folder, names).follow()
    commands = {command for each in typed.values() for command in each}
    assert {"acredssp login", "acredssp serve", "acredssp proxy", "acredssp winrm", "python server.py"} <= commands


def test_the_program_on_windows_says_in_one_line_that_the_password_is_wrong(tmp_path):
    code = next(each.code for each in blocks_of("docs/first-winrm.md", PAGE) if each.language == "python")
    with windows() as names:
        for name, value in names.items():
            code = code.replace(name, value)
        program = tmp_path / "command.py"
        program.write_text(code, encoding="utf-8")
        command = [sys.executable, "-W", "ignore", program, PIN]  # getpass warns that it is at no terminal
        done = subprocess.run(command, input="wrong\n", capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "the server refused the logon" in done.stderr
    assert "check the user, the domain and the password" in done.stderr
