"""`acredssp decode`: where the bytes come from, and what is printed of them."""

import base64
import io
import json
import os
import sys
import tracemalloc

import pytest
from vectors.load import CAPTURES, captures

from acredssp.cli import decode, tshark
from acredssp.rdp import ConnectionRequest, Protocols
from acredssp.wire import TSRequest

NEGOTIATE = bytes.fromhex("4e544c4d5353500001000000b78208e2000000000000000000000000000000000a0067580000000f")
REQUEST = TSRequest(6, nego_token=NEGOTIATE).encode()
DUMP = "\n".join(f"{at:08x}  {REQUEST[at : at + 16].hex(' ')}  |................|" for at in range(0, len(REQUEST), 16))


@pytest.mark.parametrize(
    "text",
    [
        REQUEST.hex(),
        REQUEST.hex(" "),
        REQUEST.hex(":").upper(),
        "0x" + REQUEST.hex(),
        base64.b64encode(REQUEST).decode(),
        base64.encodebytes(REQUEST).decode(),
        DUMP,
    ],
    ids=["hex", "spaces", "colons", "0x", "base64", "lines of base64", "a dump"],
)
def test_the_same_bytes_in_any_writing(command, tmp_path, text):
    path = tmp_path / "bytes"
    path.write_text(text)
    status, out, err = command("decode", path)
    assert (status, err) == (0, "")
    assert "negoToken: NTLM NEGOTIATE_MESSAGE" in out
    assert "NTLM revision 15" in out
    path.write_bytes(REQUEST)
    assert command("decode", path) == (status, out, err)
    if "\n" not in text:
        assert command("decode", text) == (status, out, err)


def test_the_standard_input_is_read(command, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(REQUEST)))
    status, out, _ = command("decode", "-", "--json")
    report = json.loads(out)
    assert (status, report["result"], report["units"][0]["name"]) == (0, "success", "TSRequest")
    assert report["units"][0]["children"][0] == {"name": "version", "offset": 4, "size": 3, "value": 6}


@pytest.mark.parametrize("capture", captures()[::9], ids=str)
def test_a_record_is_shown_flight_by_flight(command, capture):
    status, out, err = command("decode", CAPTURES / f"{capture}.json")
    assert (status, err) == (0, "")
    assert out.count("TSRequest") >= len(capture.messages)
    assert out.startswith("client: X.224 Connection Request")
    status, out, _ = command("decode", CAPTURES / f"{capture}.json", "--json")
    units = json.loads(out)["units"]
    assert [unit["sender"] for unit in units][:2] == ["client", "server"][: len(units)]


def test_a_secret_is_shown_when_it_is_named(command):
    capture = next(each for each in captures() if str(each) == "freerdp3.10-ntlm-v6")
    plain = capture["ts_credentials_plain"]
    _, hidden, _ = command("decode", plain)
    assert "Passw0rd!" not in hidden
    assert "(password hidden, 18 bytes)" in hidden
    _, shown, _ = command("decode", plain, "--show", "password")
    assert "Passw0rd!" in shown
    _, hidden, _ = command("decode", plain, "--json")
    assert "Passw0rd!" not in hidden
    assert command("decode", plain, "--show", "everything")[0] == 2


def test_malformed_bytes_are_shown_with_their_surroundings(command):
    status, out, err = command("decode", REQUEST[:-3].hex())
    assert status == 3
    assert "malformed at byte 0: ts-request: length 55 reaches past the end" in out
    assert ">30< 37 a0 03" in out
    assert "malformed at byte 0" in err
    status, out, _ = command("decode", REQUEST[:-3].hex(), "--json")
    report = json.loads(out)
    assert (status, report["result"], report["units"][0]["fault"]["offset"]) == (3, "protocol_error", 0)


def test_terminal_escapes_of_a_stranger_are_harmless(command):
    request = ConnectionRequest(requested_protocols=Protocols.HYBRID, cookie="alice").encode()
    hostile = request.replace(b"alice", b"\x1b[2J\x9b")
    for words in (["decode", hostile.hex()], ["decode", hostile.hex(), "--json"]):
        _, out, err = command(*words)
        assert all(character.isprintable() or character == "\n" for character in out + err)
        assert "[2J" in out


def test_lines_fit_a_terminal_of_80_columns(monkeypatch):
    from acredssp.cli.render import _console  # noqa: PLC0415 - what the test looks at from inside

    file = io.StringIO()
    console = _console(file)
    monkeypatch.setattr(console, "_force_terminal", True)
    console.width = 80
    trees = [("client", decode.decode(REQUEST))]
    decode._show(console, trees)
    assert file.getvalue()
    assert all(len(line) <= 80 for line in file.getvalue().splitlines() if "\x1b" not in line)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no-such-file.bin", "expected a file, hex or base64"),
        ("", "expected a file, hex or base64"),
        ("abc", "expected a file, hex or base64"),
        ("\0", "expected a file, hex or base64"),
        ("x" * 4999, "expected a file, hex or base64"),
    ],
)
def test_what_is_no_input_is_a_usage_error(command, what, said):
    status, out, err = command("decode", what)
    assert (status, out) == (2, "")
    assert said in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected bytes to decode"),
        ("{", "expected a record in json"),
        ("{}", "expected a record with a list of messages"),
        ('{"messages": [{}]}', "dir: expected c2s or s2c"),
        ('{"messages": [{"dir": "c2s", "hex": "0"}]}', "messages[0]: hex: expected hex digits"),
        ('{"messages": [{"dir": "c2s", "hex": "00", "redacted": [[0, 2, "x"]]}]}', "redacted: expected offset"),
        ('{"messages": [], "x224_cr": 1}', "x224_cr: expected a text"),
        ("[" * 100_000, "expected bytes"),
    ],
)
def test_a_file_that_is_no_record_is_a_usage_error(command, tmp_path, text, said):
    path = tmp_path / "record.json"
    path.write_text(text)
    status, _, err = command("decode", path)
    if text.startswith("["):
        assert status == 3  # bytes like any other
    else:
        assert status == 2
        assert said in err


def test_a_folder_is_a_usage_error(command, tmp_path):
    status, _, err = command("decode", tmp_path)
    assert status == 2
    assert "cannot read file" in err


def test_a_capture_of_the_network_needs_tshark(command, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    path = tmp_path / "capture.pcap"
    path.write_bytes(b"\xd4\xc3\xb2\xa1" + bytes(20))
    status, _, err = command("decode", path)
    assert status == 2
    assert "needs tshark" in err


def test_a_record_without_a_message_has_nothing_to_show(command, tmp_path):
    path = tmp_path / "record.json"
    path.write_text('{"messages": []}')
    assert command("decode", path) == (0, "", "")


def test_a_long_text_in_hex_takes_little_memory():
    text = "30" * 500_000
    tracemalloc.start()
    try:
        assert decode._from_text(text) == b"0" * 500_000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 * len(text)


def test_keys_that_cannot_be_read_are_a_usage_error(command, tmp_path):
    path = tmp_path / "capture.pcap"
    path.write_bytes(bytes.fromhex("d4c3b2a1") + bytes(20))
    status, out, err = command("decode", path, "--keylog", tmp_path / "absent")
    assert (status, out) == (2, "")
    assert err.startswith(f"usage: cannot read --keylog {tmp_path / 'absent'}: no such file or directory\n")


@pytest.fixture
def capture_for(tmp_path, monkeypatch):
    """A capture of the network that is read by a tshark of the test's own, a line for a shell."""
    if os.name == "nt":
        pytest.skip("a program of one line is a script of a shell")

    def make(line):
        program = tmp_path / "tshark"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o700)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        path = tmp_path / "capture.pcap"
        path.write_bytes(b"\xd4\xc3\xb2\xa1" + bytes(20))
        return path

    return make


def test_an_endless_conversation_is_shown_as_far_as_it_is_read(capture_for, command, monkeypatch):
    monkeypatch.setattr(tshark, "_MOST_OUTPUT", 100_000)
    path = capture_for("""exec yes "$(printf '30\n\t00')\"""")
    _, out, err = command("decode", path, "--json")
    report = json.loads(out)
    assert err == ""
    assert len(report["units"]) == 2_000
    assert report["notes"] == ["the first 2000 turns of the capture are shown"]


def test_bytes_of_one_side_are_put_together(capture_for, command):
    path = capture_for(
        f"case $* in *tcp*raw,0*) printf '{REQUEST.hex()[:40]}\n{REQUEST.hex()[40:]}\n\t05000000\n';; esac"
    )
    _, out, _ = command("decode", path, "--json")
    units = [(each["sender"], each["name"]) for each in json.loads(out)["units"]]
    assert units == [("client", "TSRequest"), ("server", "Early User Authorization Result")]


@pytest.mark.parametrize(("line", "said"), [("exec sleep 3600", "took longer than"), ("exit 3", "exit status 3")])
def test_a_tshark_that_fails_or_does_not_end_is_a_usage_error(capture_for, command, monkeypatch, line, said):
    path = capture_for(line)
    if "sleep" in line:
        monkeypatch.setattr(tshark, "_TIMEOUT", 0.1)
    status, _, err = command("decode", path)
    assert status == 2
    assert said in err
