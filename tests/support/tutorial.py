"""Runs a page of the tutorial as a newcomer does: files are saved, commands are typed, and output is compared.

A block of `shell` is typed line by line. A block whose paragraph says "Save this as `name`" is a file. A block of
`text` behind commands is what the last one printed; where its paragraph names the first or second terminal, it is what
the server there says. What the paragraph in front of a command bids to type is typed when the command asks for it.
"""

import os
import re
import subprocess
import sys
import venv

from support.pages import ROOT, blocks_of
from support.peers import DEADLINE, Lab, free_port, wait_until

PAGES = ("docs/first-logon.md", "docs/first-server.md", "docs/first-gateway.md", "docs/first-winrm.md")
"""In the order in which they are read."""

_SERVERS = ("acredssp serve ", "acredssp proxy run ", "python server.py")
_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
_NOT_TYPED = ("python3 -m venv tutorial", ". tutorial/bin/activate")
_ORDINALS = "first", "second", "third"


def install(folder):
    """Make an empty environment with the wheel alone; its dependencies are those that run the tests.

    Returns:
        The folder of its programs.
    """
    environment = _environment()
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist"]
    subprocess.run(build, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=DEADLINE)
    (wheel,) = (folder / "dist").iterdir()
    home = folder / "tutorial"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel]
    subprocess.run(pip, cwd=folder, env=environment, check=True, capture_output=True, timeout=DEADLINE)
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = subprocess.run([python, "-c", place], env=environment, check=True, capture_output=True, text=True).stdout
    found = {path for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    (folder / purelib.strip() / "dependencies.pth").write_text("\n".join(found), encoding="utf-8")
    return home / "bin"


def _environment(**more):
    """The environment without what it tells Python, pip and hatch."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "HATCH_"))}
    return kept | more


class Newcomer:
    """Follows one page in a folder of its own.

    Args:
        page: The page's path.
        programs: The folder of the environment's programs.
        folder: The newcomer's folder.
        names: What stands on the page for something of this machine, with what it stands for.
    """

    def __init__(self, page, programs, folder, names):
        self.page, self.folder = page, folder
        self.text = (ROOT / page).read_text(encoding="utf-8")
        self.names = {port: str(free_port()) for port in sorted(set(re.findall(r"\b339\d\b", self.text)))} | names
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        self.environment = _environment(PATH=path, COLUMNS="400", NO_COLOR="1", TERM="dumb", KRB5_CONFIG="/dev/null")
        self.lab = Lab(folder / "servers", **self.environment)
        self.lab.folder.mkdir(parents=True)
        self.servers, self.said, self.typed = [], "", set()

    def follow(self):
        """Run every block of the page in its order.

        Returns:
            The commands that were typed.
        """
        try:
            for block in blocks_of(self.page, self.text):
                self._run(block, self._prose(block))
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"{late.cmd} does not end: {late.output}") from late
        finally:
            self.lab.stop()
        return self.typed

    def _prose(self, block):
        """What the page says between the block and the one before it."""
        lines = self.text.splitlines()[: block.line - 2]
        return " ".join("\n".join(lines).rpartition("```")[2].split())

    def _run(self, block, prose):
        code = self._here(block.code)
        if saved := re.search(r"[Ss]ave this as `([\w.]+)`", prose):
            (self.folder / saved[1]).write_text(code, encoding="utf-8")
        elif block.language == "shell":
            answer = re.findall(r"type `([^`]+)`", prose)
            for line in code.splitlines():
                self._type(line, answer[0] if answer else None)
        elif block.language == "text":
            self._compare(code, prose)
        else:
            assert block.language == "powershell", f"nothing runs line {block.line} of {self.page}"  # on Windows

    def _here(self, text):
        """A text of the page with the ports, pins and hosts of this machine."""
        for name, value in self.names.items():
            text = text.replace(name, value)
        return text

    def _type(self, line, answer):
        self.typed.add(" ".join(line.split()[:2]))
        if line in _NOT_TYPED:
            return
        if line.startswith("pip install"):
            assert re.fullmatch(r"pip install 'acredssp\[(cli|gateway|winrm)\]'", line)
        elif line.startswith(_SERVERS):
            self.servers.append(self.lab.start(["bash", "-c", f"exec {line}"], cwd=self.folder))
            self.said = None
        else:
            self.said = self._answering(line, answer) if answer else self._plainly(line)
        self._learn_pins(self.said or "")

    def _plainly(self, line):
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout

    def _answering(self, line, answer):
        """What a command prints at a terminal; the answer is given when the command has asked."""
        argv = [sys.executable, "-c", _TERMINAL, "bash", "-c", line]
        with subprocess.Popen(
            argv, cwd=self.folder, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            asked = b""
            while not asked.lower().endswith(b": "):
                asked += (byte := process.stdout.read(1))
                assert byte, f"{line} ended without a question: {asked!r}"
            rest, _ = process.communicate(answer.encode() + b"\n", timeout=DEADLINE)
        return rest.decode().replace("\r\n", "\n").lstrip("\n")

    def _compare(self, expected, prose):
        place = [number for number, word in enumerate(_ORDINALS) if f"the {word} terminal" in prose]
        if self.said is not None and not place:
            assert _plain(self.said) == _plain(expected), f"{self.page} has {expected!r}, and {self.said!r} came"
            return
        server = self.servers[place[0] if place else -1]
        wanted = _plain(expected)
        try:
            wait_until(lambda: wanted in _plain(server.read()) or server.ended(), f"{server.name} says {wanted}")
        finally:
            said = _plain(server.read())
        assert wanted in said, said
        self._learn_pins(server.read())

    def _learn_pins(self, text):
        """A pin stands on the page as PIN, or with the name that the page has given to it."""
        if found := re.findall(r"\b[0-9a-f]{64}\b", text):
            named = re.findall(r"call it `(\S+-PIN)`", self.text)
            self.names.setdefault(named[0] if named else "PIN", found[0])


def _plain(text):
    """Text without what differs from run to run: pins, times, the clients' ports and the width of the terminal."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "PIN", text)
    text = re.sub(r"\b[\d.]+ ms\b", "N ms", text)
    text = re.sub(r"(from 127\.0\.0\.1):\d+", r"\1:N", text)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())
