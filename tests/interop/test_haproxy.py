"""HAProxy's PROXY headers are read as it means them."""

import ipaddress
import socket
import ssl

import pytest
from support import haproxy

from acredssp.wire import proxy_header
from acredssp.wire.proxy_header import Command, Endpoint, Family, ProxyHeader

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
    assert (header.version, header.command, header.checksum) == (version, Command.PROXY, server == CERTAIN)
    assert source.port == own[1]
    assert source.host in {ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::ffff:127.0.0.1")}
    assert ProxyHeader.decode(header.encode()) == header
    if source.host.version == 4:  # in version 1, HAProxy writes an IPv4 address in IPv6 form as ::ffff:127.0.0.1
        assert sorted(header.encode()) == sorted(data)  # the checksum may stand anywhere


@pytest.mark.parametrize("server", ["send-proxy", "send-proxy-v2"])
def test_a_client_of_ipv6_is_told(lab, server):
    header, data, own = sent_by_haproxy(lab, server, address="::1", both_families=True)
    assert header.family is Family.TCP6
    assert header.source == Endpoint(ipaddress.ip_address("::1"), own[1])
    assert header.encode() == data


def test_tls_server_name_unique_id_and_checksum_are_told(lab):
    header, data, own = sent_by_haproxy(lab, EVERYTHING, tls=True, frontend="unique-id-format id-%cp")
    assert header.source == Endpoint(ipaddress.ip_address("127.0.0.1"), own[1])
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
    assert ProxyHeader.decode(data).command is Command.LOCAL
