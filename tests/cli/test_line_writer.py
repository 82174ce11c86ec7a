"""The thread that writes the lines of `serve`: no reader holds up a logon or the end, and each line is whole."""

import json
import resource
import signal
import subprocess
import threading

import pytest
from support.by_hand import connect
from support.peers import wait_until

from acredssp.cli.line_writer import LineWriter
from acredssp.cli.output import OutputError, WholeLines

PATIENCE = 120


class Reader:
    """Takes lines when it is let."""

    def __init__(self):
        self.lets, self.lines, self.said = threading.Event(), [], []
        self.begun = threading.Event()
        self.fails = False

    def write(self, line):
        self.begun.set()
        assert self.lets.wait(PATIENCE)
        if self.fails:
            raise OutputError("no space")
        self.lines.append(line)

    def writer(self, **options):
        return LineWriter(self.write, self.said.append, **options)


def test_lines_beyond_the_queue_are_dropped_and_counted():
    reader = Reader()
    writer = reader.writer(most=2, end=PATIENCE)
    writer.put("0")
    assert reader.begun.wait(PATIENCE)
    for number in range(1, 6):
        writer.put(str(number))
    why = "cannot write the output: the program that reads it has stopped reading"
    assert reader.said == [f"{why}: the server goes on without a line for each handshake"]
    reader.lets.set()
    wait_until(lambda: len(reader.said) == 2, "the lines are written")
    writer.end()
    assert reader.lines == ["0", "1", "2"]
    assert reader.said[1] == "the output can be written again: 3 lines were lost"


def test_the_end_does_not_wait_for_a_reader_who_does_not_read():
    reader = Reader()
    writer = reader.writer(end=0.01)
    for line in "abc":
        writer.put(line)
    assert reader.begun.wait(PATIENCE)
    writer.end()
    assert reader.said == ["the output cannot be written: 3 lines were lost"]
    reader.lets.set()


def test_the_end_waits_for_a_reader_who_reads():
    reader = Reader()
    reader.lets.set()
    writer = reader.writer(end=PATIENCE)
    for line in "abc":
        writer.put(line)
    writer.end()
    assert (reader.lines, reader.said) == (["a", "b", "c"], [])


def test_a_line_that_cannot_be_written_is_told_once():
    reader = Reader()
    reader.fails = True
    reader.lets.set()
    writer = reader.writer(end=PATIENCE)
    for line in "abc":
        writer.put(line)
    writer.end()
    assert reader.said == ["no space: the server goes on without a line for each handshake"]


# --- torn lines ---


@pytest.fixture
def small_disk(tmp_path):
    """A file, and what limits its size, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        yield file, lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size or before[0], before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_torn_line_is_ended_before_the_next_one(small_disk):
    file, limit = small_disk
    lines = WholeLines(file)
    lines.write("whole\n")
    limit(10)
    for line in ("torn line\n", "nothing of this\n"):
        with pytest.raises(OutputError, match="file too large"):
            lines.write(line)
    limit(None)
    lines.write("again\n")
    lines.write("and again\n")
    with open(file.name, encoding="utf-8") as written:  # noqa: PTH123 - the name that the file has
        assert written.read() == "whole\ntorn\nagain\nand again\n"


def test_a_process_ends_the_line_that_another_has_torn(small_disk):
    file, limit = small_disk
    torn = bytearray(1)
    limit(4)
    with pytest.raises(OutputError):
        WholeLines(file, torn).write("torn line\n")
    limit(None)
    WholeLines(file, torn).write("whole\n")
    with open(file.name, encoding="utf-8") as written:  # noqa: PTH123 - as above
        assert written.read() == "torn\nwhole\n"


# --- the server ---


def knock(server, count):
    """So many handshakes that fail; each waits for the server's answer."""
    for _ in range(count):
        with connect(server.port) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while connection.recv(1000):
                pass


@pytest.mark.parametrize("words", [(), ("--workers", "1")], ids=["one process", "workers"])
def test_a_reader_who_does_not_read_holds_up_neither_clients_nor_the_end(serve_once, words):
    server = serve_once("--carriage", "tls", "--log-level", "info", *words)
    knock(server, 400)  # neither of the pipes has room for so many lines
    server.process.send_signal(signal.SIGTERM)
    try:
        assert server.process.wait(timeout=PATIENCE) == 0
    except subprocess.TimeoutExpired:
        server.process.kill()
        raise
    *lines, _torn = server.process.stdout.read().decode().split("\n")
    assert {json.loads(line)["outcome"] for line in lines} == {"failed"}
    server.process.stderr.close()
    server.process.stdout.close()
