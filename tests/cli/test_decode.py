"""`acredssp decode`: where the bytes come from, and what is printed of them."""

import base64
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tracemalloc

import pytest
from vectors.load import CAPTURES, captures

from acredssp.cli import decode, tshark
from acredssp.cli.inputs import Input, Part
from acredssp.cli.writing import written
from acredssp.rdp import ConnectionRequest, Protocols
from acredssp.recording import Flight, Recording, to_pcapng
from acredssp.wire import TSRequest

NEGOTIATE = bytes.fromhex("4e544c4d5353500001000000b78208e2000000000000000000000000000000000a0067580000000f")
REQUEST = TSRequest(6, nego_token=NEGOTIATE).encode()
ARRAY = ", ".join(f"0x{byte:02x}" for byte in REQUEST)
IN_BASE64 = base64.b64encode(REQUEST).decode()


def dump(data, *, colon="", group=1, bar="|", first="", indent=""):
    """A hexdump: hexdump -C unless told otherwise."""
    lines = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        halves = [row[:8].hex(" ", group), row[8:].hex(" ", group)]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        gap = "  " if bar else " "
        lines.append(f"{indent}{at:08x}{colon} {gap[1:]}{gap.join(halves):50} {bar}{text}{bar}")
    return "\n".join([*([first] if first else []), *lines]) + "\n"


def little_endian(data):
    """What plain hexdump prints, and od -x but for its offsets."""
    rows = [data[at : at + 16] for at in range(0, len(data), 16)]
    words = [" ".join((row[i : i + 2] + b"\0")[1::-1].hex() for i in range(0, len(row), 2)) for row in rows]
    return "".join(f"{at * 16:07x} {word}\n" for at, word in enumerate(words)) + f"{len(data):07x}\n"


def octal(data, base="o"):
    rows = [data[at : at + 16].hex(" ") for at in range(0, len(data), 16)]
    return "".join(f"{at * 16:07{base}} {row}\n" for at, row in enumerate(rows)) + f"{len(data):07{base}}\n"


PROGRAMS = [
    "hexdump -C", "hexdump", "hexdump -v", "xxd", "xxd -g1", "xxd -c 8 -g 4", "xxd -i", "xxd -p", "xxd -u -g 8",
    "od -A x -t x1z", "od -t x1", "od -A d -t x1", "od -x",
]  # fmt: skip
WRITINGS = {
    "hex": REQUEST.hex(),
    "spaces": REQUEST.hex(" "),
    "colons": REQUEST.hex(":").upper(),
    "dashes": REQUEST.hex("-").upper(),
    "0x": "0x" + REQUEST.hex(),
    "base64": IN_BASE64,
    "lines of base64": base64.encodebytes(REQUEST).decode(),
    "base64 for urls": base64.urlsafe_b64encode(REQUEST).decode().rstrip("="),
    "pem": f"-----BEGIN MESSAGE-----\n{base64.encodebytes(REQUEST).decode()}-----END MESSAGE-----\n",
    "hexdump -C": dump(REQUEST),
    "hexdump -C to its last line": dump(REQUEST) + f"{len(REQUEST):08x}\n",
    "xxd": dump(REQUEST, colon=":", group=2, bar=""),
    "xxd with a last half line": dump(REQUEST, colon=":", group=-4, bar=""),
    "od -A x -t x1z": dump(REQUEST, bar=">").replace(">\n", "<\n"),
    "hexdump": little_endian(REQUEST),
    "od -t x1": octal(REQUEST),
    "od -A d -t x1": octal(REQUEST, "d"),
    "an indented dump": dump(REQUEST, indent="    "),
    "a dump with text above": dump(REQUEST, first="the server answers, and face it: dead 00 beef\n"),
    "a dump with CR": dump(REQUEST).replace("\n", "\r\n"),
    "xxd -i": f"unsigned char request[] = {{\n  {ARRAY}\n}};\nunsigned int request_len = {len(REQUEST)};\n",
    "wireshark's array": f"/* Frame (57 bytes) */\nstatic const unsigned char p[57] = {{\n{ARRAY} /* 7.{{1}} */\n}};",
    "an escaped string": '"' + "".join(f"\\x{byte:02x}" for byte in REQUEST[:20]) + '" \\\n"'
    + "".join(f"\\x{byte:02x}" for byte in REQUEST[20:]) + '"',
    "python's bytes": repr(REQUEST),
    "a header field": f"WWW-Authenticate: CredSSP {IN_BASE64}\n",
    "a line of a log": f"2026-11-29 12:00:00 GET /wsman 401 [WWW-Authenticate=CredSSP {IN_BASE64}] 12ms\n",
    "curl's trace": f"< HTTP/1.1 401 Unauthorized\n< www-authenticate: CredSSP {IN_BASE64}\n<\n",
}  # fmt: skip


@pytest.mark.parametrize("text", WRITINGS.values(), ids=WRITINGS)
def test_the_same_bytes_in_any_writing(command, tmp_path, text):
    path = tmp_path / "bytes"
    path.write_text(text, newline="")
    status, out, err = command("decode", path)
    assert (status, err) == (0, "")
    assert "negoToken: NTLM NEGOTIATE_MESSAGE" in out
    assert "NTLM revision 15" in out
    path.write_bytes(REQUEST)
    assert command("decode", path)[1] == out.removeprefix("server: ")
    if "\n" not in text:
        assert command("decode", text) == (status, out, err)


@pytest.mark.parametrize("words", PROGRAMS)
def test_what_the_programs_print_is_read_to_its_last_byte(tmp_path, words):
    program, *options = words.split()
    if shutil.which(program) is None:
        pytest.skip(f"{program} is missing")
    path = tmp_path / "bytes"
    for size in (5, 8, 16, 57, 413):
        data = (REQUEST + bytes(100) + bytes(range(256)))[:size]  # the zeros are an asterisk in a dump
        path.write_bytes(data)
        text = subprocess.run([program, *options, path], capture_output=True, text=True, check=True).stdout
        assert [each.data for each in written(text, 1 << 20)] == [data], size


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_marks_of_windows_do_no_harm(command, tmp_path, mark):
    path = tmp_path / "bytes"
    path.write_text(WRITINGS["hexdump -C"], mark)
    assert command("decode", path)[:2] == (0, command("decode", REQUEST.hex())[1])


def test_each_dump_of_several_is_read(tmp_path):
    text = dump(REQUEST) + "\nand the next one:\n" + dump(NEGOTIATE)
    assert [each.data for each in written(text, 1 << 20)] == [REQUEST, NEGOTIATE]
    fields = f"Authorization: Negotiate {IN_BASE64}\nWWW-Authenticate: NTLM {base64.b64encode(NEGOTIATE).decode()}\n"
    assert [(each.sender, each.data) for each in written(fields, 1 << 20)] == [
        ("client", REQUEST), ("server", NEGOTIATE),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("00000000: 3037a003 zz\n", 1),
        (dump(REQUEST).replace("a0 03", "a0"), 1),
        (dump(REQUEST).replace("00000020", "00000021"), 2),
        (dump(REQUEST, first="see:").replace("e2 00", "e2 0g"), 4),
    ],
)
def test_a_dump_that_lacks_a_byte_is_no_other_message(command, tmp_path, text, line):
    path = tmp_path / "dump"
    path.write_text(text)
    status, out, err = command("decode", path)
    assert (status, out) == (2, "")
    assert f"this looks like a hexdump, and not all of its bytes can be read: line {line}: expected" in err


def test_text_without_bytes_is_a_usage_error(command, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("0nly some notes, by alice\n")
    status, out, err = command("decode", path)
    assert (status, out) == (2, "")
    assert "this is text, and decode finds no bytes in it: expected hex, base64" in err
    assert command("decode", path, "--as", "ts-request")[0] == 3


def test_groups_of_hex_are_no_dump():
    assert [each.data.hex() for each in written("3037a003 020106a1\n30302e30 2ca02a04", 99)] == [REQUEST[:16].hex()]
    assert [each.data for each in written("0000 0000", 99)] == [bytes(4)]


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


def test_a_report_of_doctor_is_shown_as_text(command, tmp_path):
    report = {
        "result": "denied", "target": "server:3389", "account": "CONTOSO\\alice\x1b[2J", "time": "2026-11-29T12:00:00Z",
        "stages": [{"stage": "dns", "expected": "an address", "came": "192.0.2.1"}, "no row"],
        "timeline": [{"ms": 2.5, "received": 0, "sent": 43, "waits_for": "TLS", "asks": None}],
        "causes": [{"id": "wrong-credentials", "severity": "high", "text": "It is wrong.", "next_step": "Check it."}],
        "also": 7, "login": {"message": "the server refused the logon"},
    }  # fmt: skip
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    status, out, err = command("decode", path)
    assert (status, err) == (0, "")
    assert "the logon ended with denied: the server refused the logon" in out
    assert "high wrong-credentials: It is wrong.\n    Check it.\n" in out
    assert {"dns", "192.0.2.1", "43", "TLS"} <= set(out.split())
    assert "\x1b" not in out
    assert json.loads(command("decode", path, "--json")[1]) == report


def test_lines_fit_a_terminal_of_80_columns(monkeypatch):
    from acredssp.cli.render import _console  # noqa: PLC0415 - what the test looks at from inside

    file = io.StringIO()
    console = _console(file)
    monkeypatch.setattr(console, "_force_terminal", True)
    console.width = 80
    trees = [(Part(REQUEST, "client"), decode.decode(REQUEST))]
    decode._show(console, trees, Input([]))
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
        ("captures", "there is no file captures, and as base64 it is no message that decode knows"),
        ("no-such-file.bin", "there is no file no-such-file.bin, and it is neither hex nor base64"),
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
        ("[" * 100_000, "this is text, and decode finds no bytes in it"),
    ],
)
def test_a_file_that_is_no_record_is_a_usage_error(command, tmp_path, text, said):
    path = tmp_path / "record.json"
    path.write_text(text)
    status, _, err = command("decode", path)
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
        assert [each.data for each in written(text, 1 << 24)] == [b"0" * 500_000]
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


TLS_RECORDS = bytes.fromhex("1603010004 01000000 1703030001 00")


def connection_of(*flights):
    """A capture of one connection."""
    data = Recording(flights=tuple(Flight(sender, 1_796_016_644.25, data) for sender, data in flights))
    return to_pcapng(data)


@pytest.fixture
def capture(tmp_path):
    if shutil.which("tshark") is None:
        pytest.skip("tshark is missing")
    path = tmp_path / "capture.pcapng"
    path.write_bytes(connection_of(("client", REQUEST), ("server", REQUEST)))
    return path


def test_a_capture_names_each_connection(command, capture, monkeypatch):
    line = "connection 0: 192.0.2.1:49152 to 192.0.2.2:3389, 2026-11-30T05:30:44.250Z"
    status, out, err = command("decode", capture)
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == line
    assert out.count("NTLM NEGOTIATE_MESSAGE") == 2
    packed = capture.with_suffix(".pcapng.gz")
    packed.write_bytes(gzip.compress(capture.read_bytes()))
    assert command("decode", packed) == (status, out, err)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(capture.read_bytes())))
    assert command("decode", "-") == (status, out, err)
    report = json.loads(command("decode", capture, "--json")[1])
    assert report["connections"] == [
        {"number": 0, "client": "192.0.2.1:49152", "server": "192.0.2.2:3389", "time": line[-24:], "note": None}
    ]
    assert [unit["connection"] for unit in report["units"]] == [0, 0]


def test_a_capture_that_is_cut_off_is_shown_as_far_as_it_goes(command, capture):
    capture.write_bytes(capture.read_bytes()[:-40])
    status, out, _ = command("decode", capture)
    assert status == 0
    assert out.count("NTLM NEGOTIATE_MESSAGE") == 2
    assert 'warning: the capture is shown as far as tshark reads it: The file "' in out
    assert "cut short" in out
    capture.write_bytes(capture.read_bytes()[:40])
    status, _, err = command("decode", capture)
    assert status == 2
    assert "tshark cannot read the capture: The file" in err


def test_it_is_said_what_the_keys_of_tls_would_show(command, capture, tmp_path):
    capture.write_bytes(connection_of(("client", TLS_RECORDS), ("server", TLS_RECORDS)))
    _, out, _ = command("decode", capture)
    assert "encrypted by TLS: pass the file with TLS's keys as --keylog to see what is inside" in out
    keys = tmp_path / "keys"
    keys.write_text("")
    _, out, _ = command("decode", capture, "--keylog", keys)
    assert f"encrypted by TLS, and {keys} has no keys that fit this connection" in out
    capture.write_bytes(connection_of(("client", TLS_RECORDS[:9])))
    assert "encrypted" not in command("decode", capture)[1]


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


def test_a_connection_without_a_byte_hides_no_other_one(capture_for, command):
    path = capture_for(
        f"case $* in *fields*) printf '0\\t1.5\\n1\\t2.5\\n';; *tcp*raw,1*) printf '{REQUEST.hex()}\\n';; esac"
    )
    _, out, _ = command("decode", path)
    lines = out.splitlines()
    assert lines[:2] == [
        "connection 0: 1970-01-01T00:00:01.500Z, no byte was sent", "connection 1: 1970-01-01T00:00:02.500Z",
    ]  # fmt: skip
    assert lines[2].startswith("client: TSRequest")


@pytest.mark.parametrize(("line", "said"), [("exec sleep 3600", "took longer than"), ("exit 3", "exit status 3")])
def test_a_tshark_that_fails_or_does_not_end_is_a_usage_error(capture_for, command, monkeypatch, line, said):
    path = capture_for(line)
    if "sleep" in line:
        monkeypatch.setattr(tshark, "_TIMEOUT", 0.1)
    status, _, err = command("decode", path)
    assert status == 2
    assert said in err
