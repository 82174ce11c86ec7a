"""examples/pcapng_recorder.py: what tshark reads of its files, made by hand and by FreeRDP on both legs."""

import asyncio
import importlib
import json
import re
import stat
import sys
from pathlib import Path

import pytest
from support import freerdp
from support.command import login
from support.peers import free_port, program, wait_until

import acredssp
from acredssp.aio import RelayEnd

pytestmark = pytest.mark.interop

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PASSWORD = "Passw0rd!"
CLIENT, TARGET = ("192.0.2.7", 50001), ("2001:db8::2", 13389)


@pytest.fixture
def recorder(monkeypatch):
    """The example as a module."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module("pcapng_recorder")
    for name in ("pcapng_recorder", "gateway"):
        sys.modules.pop(name, None)


def dissected(lab, path, wanted, *fields):
    """What tshark reads: {field: values} of each packet that `wanted` lets through."""
    argv = [program("tshark"), "-r", path, "-T", "json", *(("-Y", wanted) if wanted else ())]
    run = lab.run([*argv, *(part for field in ("frame.number", *fields) for part in ("-e", field))], split=True)
    assert run.status == 0, run.errors
    return [packet["_source"]["layers"] for packet in json.loads(run.output)]


def followed(lab, path):
    """What tshark puts together again: the bytes of the client, and those of the target."""
    run = lab.run([program("tshark"), "-q", "-r", path, "-z", "follow,tcp,raw,0"], split=True)
    assert run.status == 0, run.errors
    lines = re.findall(r"^(\t?)([0-9a-f]+)$", run.output, re.MULTILINE)
    return tuple(b"".join(bytes.fromhex(data) for tab, data in lines if tab == whose) for whose in ("", "\t"))


def test_tshark_puts_both_directions_together_again_in_their_order(lab, recorder):
    path = lab.folder / "made.pcapng"
    up, down = bytes(range(256)) * 600, b"answer"
    capture = recorder.Capture(path, CLIENT, TARGET)
    capture.begin(b"first")
    capture.write(RelayEnd.B, 0, down)
    asyncio.run(capture(RelayEnd.A, 0, up))
    capture.write(RelayEnd.B, len(down), b"end")
    capture.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert followed(lab, path) == (b"first" + up, down + b"end")
    packets = dissected(lab, path, "", "ipv6.src", "tcp.srcport", "tcp.len", "tcp.flags.str", "frame.time_epoch")
    sent = [(packet["ipv6.src"][0], int(packet["tcp.len"][0])) for packet in packets]
    client, target = "::ffff:192.0.2.7", "2001:db8::2"
    begin, end = [(client, 0), (target, 0), (client, 0)], [(client, 0), (target, 0)]
    pieces = [(client, 65_000), (client, 65_000), (client, 23_600)]
    assert sent == [*begin, (client, 5), (target, 6), *pieces, (target, 3), *end]
    times = [float(packet["frame.time_epoch"][0]) for packet in packets]
    assert times == sorted(times)
    assert dissected(lab, path, "tcp.analysis.flags || _ws.malformed") == []


def test_bytes_that_a_lossy_recording_left_out_are_missing(lab, recorder):
    path = lab.folder / "gap.pcapng"
    capture = recorder.Capture(path, CLIENT, TARGET)
    capture.write(RelayEnd.B, 0, b"before")
    capture.write(RelayEnd.B, 1006, b"behind")
    capture.close()
    (lost,) = dissected(lab, path, "tcp.analysis.lost_segment", "tcp.seq")
    assert lost["tcp.seq"] == ["1007"]


def test_a_recording_overwrites_no_file(lab, recorder):
    path = lab.folder / "there.pcapng"
    path.write_bytes(b"another recording")
    with pytest.raises(FileExistsError):
        recorder.Capture(path, CLIENT, TARGET)
    assert path.read_bytes() == b"another recording"


@pytest.mark.parametrize("shadow", [2, 3], ids=["shadow2", "shadow3"])
@pytest.mark.parametrize("client", [2, 3], ids=["freerdp2", "freerdp3"])
def test_tshark_dissects_the_rdp_of_a_recorded_connection(graphical_lab, shadow_servers, tmp_path, client, shadow):
    """tshark 4.0 misses fields of the Client Info PDU and of dynamic channels that FreeRDP leaves out at their ends."""
    lab, server = graphical_lab, shadow_servers(shadow)
    pin = login(lab, server.address, "--mechanism", "ntlm").record["peer_key_sha256"]
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path, data in zip(files, acredssp.self_signed(["localhost"]), strict=True):
        path.write_bytes(data)
    (folder := tmp_path / "recordings").mkdir()
    port, route = free_port(), f"desktops=127.0.0.1:{server.port}:{pin}"
    process = lab.start_server(
        [sys.executable, EXAMPLES / "pcapng_recorder.py", folder, port, *files, "alice", PASSWORD, route], port
    )
    freerdp.log_on(lab, client, f"127.0.0.1:{port}", "/load-balance-info:desktops", password=PASSWORD)
    wait_until(lambda: "RelayResult" in process.read(), "the relay ends")
    (path,) = folder.iterdir()
    told = re.search(r"bytes_up=(\d+), bytes_down=(\d+)", process.read())
    up, down = followed(lab, path)
    assert len(down) == int(told[2])
    assert len(up) > int(told[1]) > 0  # what the client sent before the relay is in the file, too
    assert dissected(lab, path, "tcp.analysis.flags || (_ws.malformed && !rdp.clientInfoPDU && !rdp_drdynvc)") == []

    def first(wanted, *fields):
        """The first packet of a kind, and who sent it."""
        packet = dissected(lab, path, wanted, "tcp.dstport", *fields)[0]
        return int(packet["frame.number"][0]), packet["tcp.dstport"] == ["3389"], packet

    kinds = (
        "rdp.clientData",
        "rdp.serverData",
        "rdp.clientInfoPDU",
        "rdp.validClientLicenseData",
        "rdp.pduType.type == 3",
    )
    places = [first(kind)[:2] for kind in kinds]
    assert places == sorted(places)
    assert [from_client for _, from_client in places] == [True, False, True, False, True]
    _, _, packet = first("rdp.clientInfoPDU", "rdp.userName")
    assert packet["rdp.userName"] == ["alice"]
