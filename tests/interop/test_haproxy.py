"""HAProxy's PROXY headers are read as it means them, and `acredssp serve` behind it knows its clients."""

import ipaddress
import socket
import ssl

import pytest
from support import freerdp, haproxy
from support.command import serve
from support.peers import wait_until

from acredssp.wire import proxy_header
from acredssp.wire.proxy_header import ProxyCommand, ProxyEndpoint, ProxyFamily, ProxyHeader

pytestmark = pytest.mark.interop

CERTAIN = "send-proxy-v2 proxy-v2-options crc32c"
EVERYTHING = "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,crc32c,unique-id"


def sent_by_haproxy(lab, server, *, tls=False, address="127.0.0.1", **options):
    """What HAProxy says of a client: the header, its bytes, and the client's own address."""
    with haproxy.listening() as listener:
        port = haproxy.start(lab, listener.getsockname()[1], server, tls=tls, **options)
        client = socket.create_connection((address, port), haproxy.DEADLINE)
        own = client.getsockname()
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client = context.wrap_socket(client, server_hostname="gw.example")
        with client, haproxy.accepted(listener) as connection:
            client.sendall(b"behind it")
            data = haproxy.read_frame(connection, proxy_header.frame_size)
            assert haproxy.read_exactly(connection, 9) == b"behind it"
    return ProxyHeader.decode(data), data, own


@pytest.mark.parametrize(("server", "version"), [("send-proxy", 1), ("send-proxy-v2", 2), (CERTAIN, 2)])
@pytest.mark.parametrize("both_families", [False, True])
def test_the_client_is_told(lab, server, version, both_families):
    header, data, own = sent_by_haproxy(lab, server, both_families=both_families)
    source = header.source
    assert (header.version, header.command, header.checksum) == (version, ProxyCommand.PROXY, server == CERTAIN)
    assert source.port == own[1]
    assert source.host in {ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::ffff:127.0.0.1")}
    assert ProxyHeader.decode(header.encode()) == header
    if source.host.version == 4:  # in version 1, HAProxy writes an IPv4 address in IPv6 form as ::ffff:127.0.0.1
        assert sorted(header.encode()) == sorted(data)  # the checksum may stand anywhere


@pytest.mark.parametrize("server", ["send-proxy", "send-proxy-v2"])
def test_a_client_of_ipv6_is_told(lab, server):
    header, data, own = sent_by_haproxy(lab, server, address="::1", both_families=True)
    assert header.family is ProxyFamily.TCP6
    assert header.source == ProxyEndpoint(ipaddress.ip_address("::1"), own[1])
    assert header.encode() == data


def test_tls_server_name_unique_id_and_checksum_are_told(lab):
    header, data, own = sent_by_haproxy(lab, EVERYTHING, tls=True, frontend="unique-id-format id-%cp")
    assert header.source == ProxyEndpoint(ipaddress.ip_address("127.0.0.1"), own[1])
    assert header.checksum
    assert header.authority == "gw.example"
    assert header.unique_id == f"id-{own[1]}".encode()
    told = header.tls
    assert (told.over_tls, told.certificate, told.common_name) == (True, False, "")
    assert told.version == "TLSv1.3"
    assert told.cipher.startswith("TLS_")
    assert told.key_algorithm == "RSA2048"
    assert told.signature_algorithm == "RSA-SHA256"
    assert len(header.encode()) == len(data)


def test_a_wrong_bit_in_a_header_with_a_checksum_is_found(lab):
    _, data, _ = sent_by_haproxy(lab, CERTAIN)
    for index in range(16, len(data)):
        spoilt = data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
        try:
            assert not ProxyHeader.decode(spoilt).checksum
        except proxy_header.RemoteProtocolError:
            continue


def test_a_health_check_is_told_apart(lab):
    with haproxy.listening() as listener:
        haproxy.start(lab, listener.getsockname()[1], "check inter 200ms check-send-proxy send-proxy-v2")
        with haproxy.accepted(listener) as connection:
            data = haproxy.read_frame(connection, proxy_header.frame_size)
    assert ProxyHeader.decode(data).command is ProxyCommand.LOCAL


# -- in front of `acredssp serve`

BALANCER = "127.0.0.2"
"""HAProxy's own address, so that a client's can be told from it."""
HEADERS = pytest.mark.parametrize("option", ["send-proxy", CERTAIN], ids=["v1", "v2"])


def behind(lab, option, *words, **options):
    """`serve` and the port of a HAProxy in front of it."""
    server = serve(lab, "--proxy-protocol", BALANCER, *words)
    return server, haproxy.start(lab, server.port, f"source {BALANCER} {option}", **options)


@HEADERS
@pytest.mark.parametrize("client", [2, 3], ids=["freerdp2", "freerdp3"])
def test_freerdp_logs_on_through_haproxy_and_beside_it(graphical_lab, client, option):
    server, port = behind(graphical_lab, option)
    for address in (f"127.0.0.1:{port}", server.address):
        assert freerdp.log_on(graphical_lab, client, address).status == freerdp.LOGGED_ON
        record = server.record()
        assert (record["result"], record["peer"].rpartition(":")[0]) == ("success", "127.0.0.1")


@HEADERS
def test_limits_count_the_clients_and_not_haproxy(graphical_lab, option):
    limits = ["--max-failures", "1/10", "--log-level", "info"]
    server, port = behind(graphical_lab, option, *limits)
    # The second one is not looked at any more, and neither is one of the same client beside the load balancer.
    for address, outcome in (
        (f"127.0.0.1:{port}", "denied"),
        (f"127.0.0.1:{port}", "limited"),
        (server.address, "limited"),
    ):
        before = len(server.process.read_errors())
        assert freerdp.log_on(graphical_lab, 2, address, password="wrong").status == freerdp.LOGON_FAILED
        wait_until(lambda: "failed: " in server.process.read_errors()[before:], "the log tells of it")  # noqa: B023
        assert f"failed: {outcome}, " in server.process.read_errors()[before:]
    assert "too many wrong passwords from 127.0.0.1 for ALICE" in server.process.read_errors()


def test_haproxy_without_a_header_is_refused(graphical_lab):
    server, port = behind(graphical_lab, "")
    assert freerdp.log_on(graphical_lab, 2, f"127.0.0.1:{port}").status != freerdp.LOGON_FAILED
    record = server.record()
    assert (record["result"], record["peer"].rpartition(":")[0]) == ("protocol_error", BALANCER)
    assert "expected a PROXY header, got RDP's negotiation" in record["message"]


def test_a_header_from_a_client_is_refused(lab):
    server = serve(lab, "--proxy-protocol", BALANCER)
    with socket.create_connection(("127.0.0.1", server.port), haproxy.DEADLINE) as client:
        client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 5 6\r\n")
        assert client.recv(1) == b""
    record = server.record()
    assert (record["result"], record["peer"].rpartition(":")[0]) == ("protocol_error", "127.0.0.1")
    assert "got a PROXY header, version 1" in record["message"]


def test_haproxys_health_checks_find_the_server_alive_and_make_no_noise(lab):
    server = serve(lab, "--proxy-protocol", BALANCER, "--log-level", "debug")
    check = "check inter 100ms check-send-proxy send-proxy-v2"
    front = haproxy.start(lab, server.port, f"source {BALANCER} {check}")
    wait_until(lambda: server.process.read_errors().count("failed: no_data") >= 3, "three checks have come")
    assert f"handshake with {BALANCER}:" in server.process.read_errors()
    with socket.create_connection(("127.0.0.1", front), haproxy.DEADLINE) as client:
        client.sendall(bytes.fromhex("030000130ee000000000000100080003000000"))
        assert haproxy.read_exactly(client, 19)[5] == 0xD0
    assert server.record()["peer"].startswith("127.0.0.1:")
