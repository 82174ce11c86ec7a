"""The PROXY header: what HAProxy's specification says, written and read, and everything else refused."""

import contextlib
import dataclasses
import importlib
import io
import random
import socket
import zlib
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors import hostile

from acredssp.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from acredssp.wire import proxy_header
from acredssp.wire.framing import FrameSize
from acredssp.wire.proxy_header import (
    ProxyCommand,
    ProxyEndpoint,
    ProxyFamily,
    ProxyHeader,
    ProxyTLS,
    TLVType,
    frame_size,
)

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")


def v4(host, port):
    return ProxyEndpoint(IPv4Address(host), port)


def v6(host, port):
    return ProxyEndpoint(IPv6Address(host), port)


def binary(body=b"", command=0x21, family=0x11):
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


def tlv(kind, value):
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


TCP4 = bytes.fromhex("c0000201cb0071021f903d3d")  # 192.0.2.1:8080 to 203.0.113.2:15677
TCP6 = IPv6Address("2001:db8::1").packed + IPv6Address("2001:db8::2").packed + bytes.fromhex("ffff0d3d")
UNIX = b"/run/client".ljust(108, b"\0") + bytes(108)
CLIENT, FRONT = v4("192.0.2.1", 8080), v4("203.0.113.2", 15677)

LINES = {
    # the specification's own example, and its longest lines
    b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n": ProxyHeader(
        version=1, family=ProxyFamily.TCP4, source=v4("192.168.0.1", 56324), destination=v4("192.168.0.11", 443)
    ),
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": ProxyHeader(
        version=1,
        family=ProxyFamily.TCP4,
        source=v4("255.255.255.255", 65535),
        destination=v4("255.255.255.255", 65535),
    ),
    b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n": ProxyHeader(
        version=1,
        family=ProxyFamily.TCP4,
        source=v4("0.0.0.0", 0),  # noqa: S104
        destination=v4("0.0.0.0", 0),  # noqa: S104
    ),
    b"PROXY TCP6 2001:db8::1 ::1 1024 3389\r\n": ProxyHeader(
        version=1, family=ProxyFamily.TCP6, source=v6("2001:db8::1", 1024), destination=v6("::1", 3389)
    ),
    b"PROXY UNKNOWN\r\n": ProxyHeader(version=1),
}
ALSO_LINES = {
    b"PROXY TCP6 " + b"FFFF:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n": ProxyHeader(
        version=1,
        family=ProxyFamily.TCP6,
        source=v6("ffff:" * 7 + "ffff", 65535),
        destination=v6("ffff:" * 7 + "ffff", 65535),
    ),
    # as inet_ntop writes the address of an IPv4 client on a socket of both families
    b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n": ProxyHeader(
        version=1, family=ProxyFamily.TCP6, source=v6("::ffff:c000:201", 1), destination=v6("::ffff:c000:202", 2)
    ),
    b"PROXY UNKNOWN " + b"ffff:" * 7 + b"ffff " + b"ffff:" * 7 + b"ffff 65535 65535\r\n": ProxyHeader(version=1),
    b"PROXY UNKNOWN \x00\xff whatever\r\n": ProxyHeader(version=1),
}
BINARIES = {
    binary(TCP4): ProxyHeader(family=ProxyFamily.TCP4, source=CLIENT, destination=FRONT),
    binary(TCP4, family=0x12): ProxyHeader(family=ProxyFamily.UDP4, source=CLIENT, destination=FRONT),
    binary(TCP6, family=0x21): ProxyHeader(
        family=ProxyFamily.TCP6, source=v6("2001:db8::1", 65535), destination=v6("2001:db8::2", 3389)
    ),
    binary(TCP6, family=0x22): ProxyHeader(
        family=ProxyFamily.UDP6, source=v6("2001:db8::1", 65535), destination=v6("2001:db8::2", 3389)
    ),
    binary(UNIX, family=0x31): ProxyHeader(family=ProxyFamily.UNIX_STREAM, source=b"/run/client", destination=b""),
    binary(UNIX, family=0x32): ProxyHeader(family=ProxyFamily.UNIX_DGRAM, source=b"/run/client", destination=b""),
    binary(family=0): ProxyHeader(),
    binary(command=0x20, family=0): ProxyHeader(command=ProxyCommand.LOCAL),
    binary(TCP4 + tlv(2, b"gw.example") + tlv(5, b"id-1") + tlv(0xE0, b"") + tlv(0xE0, b"x")): ProxyHeader(
        family=ProxyFamily.TCP4,
        source=CLIENT,
        destination=FRONT,
        tlvs=((2, b"gw.example"), (5, b"id-1"), (0xE0, b""), (0xE0, b"x")),
    ),
    binary(TCP4 + tlv(3, bytes.fromhex("9685e051"))): ProxyHeader(
        family=ProxyFamily.TCP4, source=CLIENT, destination=FRONT, checksum=True
    ),
}
ALSO_BINARIES = {
    # LOCAL: the block is skipped unread, its family too
    binary(TCP4 + tlv(4, b""), command=0x20): ProxyHeader(command=ProxyCommand.LOCAL),
    binary(b"\x03\xff", command=0x20, family=0xFF): ProxyHeader(command=ProxyCommand.LOCAL),
    binary(b"\x01\x02\x03", family=0): ProxyHeader(),
    binary(TCP4 + tlv(4, bytes(20))): ProxyHeader(family=ProxyFamily.TCP4, source=CLIENT, destination=FRONT),
}
WRITTEN = LINES | BINARIES
READ = WRITTEN | ALSO_LINES | ALSO_BINARIES
LONG_BODY = TCP4 + tlv(4, bytes(2048 - 16 - 12 - 3))

rows = pytest.mark.parametrize(("data", "value"), READ.items())


def read(data):
    """Read as a driver does: ask for what is missing, and no more; return the value and the bytes it took."""
    stream, got = io.BytesIO(data), b""
    while missing := frame_size(got).missing:
        more = stream.read(missing)
        assert len(more) == missing, "asked for more than the header has"
        got += more
    return ProxyHeader.decode(got), len(got)


# -- both ways


@pytest.mark.parametrize(("data", "value"), WRITTEN.items())
@pytest.mark.requirement("proxied.line", "proxied.binary")
def test_headers_are_written(data, value):
    assert value.encode() == data


@rows
@pytest.mark.requirement("proxied.line", "proxied.binary")
def test_headers_are_read_and_nothing_behind_them(data, value):
    assert read(data) == (value, len(data))
    assert read(data + b"PROXY TCP4 1.2.3.4\r\n") == (value, len(data))
    assert frame_size(data + b"\x03\0\0\x13") == FrameSize(len(data), 0)


@rows
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_no_prefix_is_refused_or_taken_for_whole(data, value, kind):
    for cut in range(len(data)):
        total, missing = frame_size(kind(data[:cut]))
        assert 0 < missing <= len(data) - cut
        assert total in {0, len(data)}
        assert frame_size(kind(b"\xff" + data[:cut]), 1) == (total, missing)
        with pytest.raises(RemoteProtocolError):
            ProxyHeader.decode(data[:cut])
    with pytest.raises(RemoteProtocolError):
        ProxyHeader.decode(data + b"\0")


@pytest.mark.parametrize("seed", range(20))
def test_random_cuts_give_the_same_header(seed):
    chance = random.Random(seed)
    for whole, value in READ.items():
        stream, got = whole + chance.randbytes(20), b""
        while (size := frame_size(got)).missing:
            cut = chance.randint(1, 40)
            got, stream = got + stream[:cut], stream[cut:]
        end = size.total
        assert ProxyHeader.decode(got[:end]) == value


hosts4, hosts6 = st.ip_addresses(v=4), st.ip_addresses(v=6)
ports = st.integers(0, 65535)
paths = st.binary(max_size=108).map(lambda path: path.rstrip(b"\0"))
tlvs = st.lists(
    st.tuples(st.sampled_from([0x40, 0xE0, 0xFF]), st.binary(max_size=60))
    | st.tuples(st.just(int(TLVType.NETNS)), st.binary(max_size=5)),
    max_size=5,
    unique_by=lambda pair: pair[0] if pair[0] == TLVType.NETNS else object(),
).map(tuple)


def headers(families, ends, **more):
    return st.builds(
        ProxyHeader, family=st.sampled_from(families), source=ends, destination=ends, tlvs=tlvs, checksum=st.booleans()
    )


ANY = (
    headers([ProxyFamily.TCP4, ProxyFamily.UDP4], st.builds(ProxyEndpoint, hosts4, ports))
    | headers([ProxyFamily.TCP6, ProxyFamily.UDP6], st.builds(ProxyEndpoint, hosts6, ports))
    | headers([ProxyFamily.UNIX_STREAM, ProxyFamily.UNIX_DGRAM], paths)
)


@given(ANY)
def test_any_header_of_version_2_survives_the_round_trip(value):
    assert read(value.encode()) == (value, len(value.encode()))


@given(st.sampled_from([(ProxyFamily.TCP4, hosts4), (ProxyFamily.TCP6, hosts6)]), st.data())
def test_any_header_of_version_1_survives_the_round_trip(family_and_hosts, data):
    family, hosts = family_and_hosts
    ends = st.builds(ProxyEndpoint, hosts, ports)
    value = ProxyHeader(version=1, family=family, source=data.draw(ends), destination=data.draw(ends))
    assert len(value.encode()) <= 107
    assert read(value.encode()) == (value, len(value.encode()))


# -- what TLVs say


def test_the_server_name_and_the_unique_id_are_told():
    value = ProxyHeader.decode(binary(TCP4 + tlv(2, "gw.exämple".encode()) + tlv(5, b"\x01\x02")))
    assert (value.authority, value.unique_id, value.tls) == ("gw.exämple", b"\x01\x02", None)
    assert ProxyHeader.decode(binary(TCP4 + tlv(2, b"\xff"))).authority == "\udcff"
    nothing = ProxyHeader.decode(binary(TCP4))
    assert (nothing.authority, nothing.unique_id) == ("", b"")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (bytes.fromhex("0000000000"), ProxyTLS(over_tls=False, certificate=False, verified=True)),
        (bytes.fromhex("0100000001"), ProxyTLS(over_tls=True, certificate=False, verified=False)),
        (
            bytes.fromhex("0300000000")
            + tlv(0x21, b"TLSv1.3")
            + tlv(0x22, "J\u00fcrgen".encode())
            + tlv(0x23, b"TLS_AES_128_GCM_SHA256")
            + tlv(0x24, b"RSA-SHA256")
            + tlv(0x25, b"RSA2048"),
            ProxyTLS(
                over_tls=True,
                certificate=True,
                verified=True,
                version="TLSv1.3",
                common_name="J\u00fcrgen",
                cipher="TLS_AES_128_GCM_SHA256",
                signature_algorithm="RSA-SHA256",
                key_algorithm="RSA2048",
            ),
        ),
        (bytes.fromhex("0500000014"), ProxyTLS(over_tls=True, certificate=True, verified=False)),
    ],
)
def test_the_clients_tls_is_told(value, expected):
    assert ProxyHeader.decode(binary(TCP4 + tlv(0x20, value))).tls == expected


def test_the_checksum_is_the_castagnoli_one():
    assert proxy_header._crc32c(b"123456789") == 0xE3069283  # the check value of every catalogue of CRCs
    assert proxy_header._crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720 B.4
    assert proxy_header._crc32c(b"123456789") != zlib.crc32(b"123456789")


@given(ANY.filter(lambda value: value.checksum), st.data())
def test_a_changed_header_does_not_keep_its_checksum(value, data):
    whole = value.encode()
    at = data.draw(st.integers(16, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    # Where the byte is not in a TLV's type or length, the checksum is what finds it out; elsewhere the structure may.
    with contextlib.suppress(RemoteProtocolError):
        assert not ProxyHeader.decode(bytes(changed)).checksum


# -- what is refused


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n\r\n", "expected CR LF at byte 45"),
        (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\rX", "expected CR LF at byte 45"),
        (b"PROXY UNKNOWN\nX", "expected CR LF at byte 13"),
        (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n", "expected 6 words"),
        (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n", "expected 6 words"),
        (b"PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n", "expected 6 words"),
        (b"PROXY  TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "expected TCP4, TCP6 or UNKNOWN"),
        (b"PROXY UNKNOWNX 192.168.0.1\r\n", "expected TCP4, TCP6 or UNKNOWN"),
        (b"PROXY UDP4 192.168.0.1 192.168.0.11 56324 443\r\n", "expected TCP4, TCP6 or UNKNOWN"),
        (b"PROXY tcp4 192.168.0.1 192.168.0.11 56324 443\r\n", "expected TCP4, TCP6 or UNKNOWN"),
        (b"PROXY X 192.168.0.1\r\n", "expected TCP4, TCP6 or UNKNOWN"),
        *(
            (b"PROXY TCP4 %s 192.168.0.11 56324 443\r\n" % host, "expected the source as an address of TCP4")
            for host in (
                b"192.168.00.1", b"192.168.0.01", b"192.168.0.256", b"192.168.0", b"192.168.0.1.1", b"+1.2.3.4",
                b"0x7f.0.0.1", b"1.2.3.-4", b"1.2.3.4/8", b"::1", b"localhost", b"", b"1.2.3.4\0", b"1.2.3.\xb2",
                b"1.2.3.\xd9\xa1", b"\t1.2.3.4",
            )
        ),
        *(
            (b"PROXY TCP6 ::1 %s 56324 443\r\n" % host, "expected the destination as an address of TCP6")
            for host in (
                b"1.2.3.4", b":::", b"1::2::3", b"1:2:3:4:5:6:7", b"1:2:3:4:5:6:7:8:9", b"12345::", b"::g", b"::+1",
                b"::-1", b"fe80::1%eth0", b"::1%1", b"[::1]", b"::1.2.3.04", b"::1.2.3.256", b"::1/64", b":", b"",
                b"::0x1", b"::1_0",
            )
        ),
        *(
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 %s 1\r\n" % port, "expected the source port as a number")
            for port in (b"01", b"00", b"+1", b"-1", b"65536", b"99999", b"123456", b"0x1", b"1.", b"",
                         b"1_0", b"\xd9\xa1")
        ),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n", "expected the destination port as a number"),
        (binary(TCP4, command=0x11), "expected version 2 at byte 12, got 1"),
        (binary(TCP4, command=0x31), "expected version 2 at byte 12, got 3"),
        (binary(TCP4, command=0x22), "expected command 0 or 1 at byte 12, got 2"),
        (binary(TCP4, family=0x41), "expected a known family at byte 13, got 0x41"),
        (binary(TCP4, family=0x13), "expected a known family at byte 13, got 0x13"),
        (binary(TCP4, family=0x10), "expected a known family at byte 13, got 0x10"),
        (binary(TCP4, family=0x01), "expected a known family at byte 13, got 0x01"),
        (binary(TCP4[:-1]), "expected a length of at least 12 at byte 14, got 11"),
        (binary(TCP6[:-1], family=0x21), "expected a length of at least 36 at byte 14, got 35"),
        (binary(UNIX[:-1], family=0x31), "expected a length of at least 216 at byte 14, got 215"),
        (binary(), "expected a length of at least 12 at byte 14, got 0"),
        (binary(TCP4 + b"\xe0"), "expected a TLV of at least 3 bytes at byte 28, got 1"),
        (binary(TCP4 + b"\xe0\0"), "expected a TLV of at least 3 bytes at byte 28, got 2"),
        (binary(TCP4 + b"\xe0\0\1"), "expected TLV 0xE0 to have at most 0 bytes, got 1"),
        (binary(TCP4 + b"\xe0\xff\xff" + bytes(9)), "expected TLV 0xE0 to have at most 9 bytes, got 65535"),
        (binary(TCP4 + tlv(2, b"a") + tlv(2, b"b")), "expected one TLV 0x02, got another at byte 32"),
        (binary(TCP4 + tlv(5, bytes(129))), "expected a unique id of at most 128 bytes, got 129"),
        (binary(TCP4 + tlv(3, bytes(3))), "expected a CRC32C of 4 bytes, got 3"),
        (binary(TCP4 + tlv(3, bytes(5))), "expected a CRC32C of 4 bytes, got 5"),
        (binary(TCP4 + tlv(3, bytes(4))), "expected CRC32C 0x9685E051, got 0x00000000"),
        (binary(TCP4 + tlv(0x20, bytes(4))), "expected an SSL TLV of at least 5 bytes, got 4"),
        (binary(TCP4 + tlv(0x20, bytes(6))), "expected a TLV of at least 3 bytes at byte 36, got 1"),
        (binary(TCP4 + tlv(0x20, bytes(5) + b"\x21\0\2a")), "expected TLV 0x21 to have at most 1 bytes, got 2"),
        (binary(TCP4 + tlv(0x20, bytes(5) + tlv(0x22, b"a") * 2)), "expected one TLV 0x22, got another"),
    ],
)  # fmt: skip
@pytest.mark.requirement("proxied.line", "proxied.binary")
def test_malformed_headers_are_refused(data, text):
    with pytest.raises(RemoteProtocolError, match=text):
        read(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "a PROXY header, got a TLS handshake"),
        (b"\x03\0\0\x13\x0e\xe0", "a PROXY header, got RDP's negotiation"),
        (b"GET / HTTP/1.1\r\n", "a PROXY header, got an HTTP request"),
        (b"PROXYTCP4", "a PROXY header, got other bytes"),
        (b"Q", "a PROXY header, got other bytes"),
        (SIGNATURE[:-1] + b"\x0b", "a PROXY header, got other bytes"),
        (b"\r\n\r\n\r", "a PROXY header, got other bytes"),
    ],
)
def test_what_is_no_header_is_refused_at_its_first_wrong_byte(data, what):
    with pytest.raises(RemoteProtocolError, match=what) as raised:
        frame_size(data)
    assert "send-proxy" in raised.value.hint
    assert "--proxy-protocol" in raised.value.hint


def test_a_wrong_version_command_or_family_is_refused_before_the_length_is_there():
    for beginning in (b"\x31", b"\x22", b"\x21\x41"):
        with pytest.raises(RemoteProtocolError):
            frame_size(SIGNATURE + beginning)
    assert frame_size(SIGNATURE + b"\x20\x41") == FrameSize(0, 2)


@pytest.mark.requirement("proxied.line")
def test_a_line_ends_within_107_bytes():
    longest = b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n"
    assert frame_size(longest) == FrameSize(107, 0)
    assert frame_size(longest[:105]) == FrameSize(0, 2)
    assert frame_size(longest[:106]) == FrameSize(0, 1)
    for too_long in (longest[:105] + b"x", longest[:105] + b"x\r\n", b"PROXY TCP4 " + b"1" * 2000):
        with pytest.raises(LimitExceeded, match="at most 107 bytes"):
            frame_size(too_long)


@pytest.mark.requirement("proxied.binary")
def test_a_binary_header_has_at_most_2_kib():
    longest = binary(LONG_BODY)
    assert frame_size(longest[:16]) == FrameSize(2048, 2032)
    assert read(longest)[1] == 2048
    with pytest.raises(LimitExceeded, match="at most 2048 bytes, got 2049"):
        frame_size(binary(LONG_BODY + b"\0")[:16])
    with pytest.raises(LimitExceeded, match="at most 2048 bytes, got 65551"):
        frame_size(SIGNATURE + b"\x20\x00\xff\xff")


@rows
def test_spoilt_headers_raise_only_our_errors(data, value):
    for spoil in (hostile.flips, hostile.replacements, hostile.deletions, hostile.insertions):
        for spoilt in spoil(data):
            with contextlib.suppress(RemoteProtocolError):
                total, missing = frame_size(spoilt)
                if not missing:
                    ProxyHeader.decode(spoilt[:total]).tls  # noqa: B018
            with contextlib.suppress(RemoteProtocolError):
                ProxyHeader.decode(spoilt)


@pytest.mark.parametrize("line", [b"PROXY TCP6 2\r\n", b"PROXY \r\n", b"PROXY UNKNOW\r\n"])
def test_a_line_that_is_shorter_than_any_is_refused_and_nobody_waits_for_bytes_behind_it(line):
    with pytest.raises(RemoteProtocolError, match=f"at least 15 bytes, got one of {len(line)}"):
        frame_size(line)


@given(st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\0"]), st.binary(max_size=300))
def test_any_bytes_raise_only_our_errors(beginning, rest):
    with contextlib.suppress(RemoteProtocolError):
        total, missing = frame_size(beginning + rest)
        assert missing == 0 or missing <= 2048
        if not missing:
            ProxyHeader.decode((beginning + rest)[:total]).tls  # noqa: B018


# -- what cannot be written


@pytest.mark.parametrize(
    "value",
    [
        ProxyHeader(version=3),
        ProxyHeader(version=1, command=ProxyCommand.LOCAL),
        ProxyHeader(version=1, tlvs=((0xE0, b""),)),
        ProxyHeader(version=1, checksum=True),
        ProxyHeader(version=1, family=ProxyFamily.UDP4, source=CLIENT, destination=FRONT),
        ProxyHeader(version=1, family=ProxyFamily.UNIX_STREAM, source=b"", destination=b""),
        ProxyHeader(source=CLIENT),
        ProxyHeader(command=ProxyCommand.LOCAL, family=ProxyFamily.TCP4, source=CLIENT, destination=FRONT),
        ProxyHeader(command=ProxyCommand.LOCAL, tlvs=((0xE0, b""),)),
        ProxyHeader(command=ProxyCommand.LOCAL, checksum=True),
        ProxyHeader(tlvs=((0xE0, b""),)),
        ProxyHeader(family=ProxyFamily.TCP4, source=CLIENT),
        ProxyHeader(family=ProxyFamily.TCP4, source=b"", destination=b""),
        ProxyHeader(family=ProxyFamily.TCP6, source=CLIENT, destination=FRONT),
        ProxyHeader(family=ProxyFamily.TCP4, source=v4("1.2.3.4", 65536), destination=FRONT),
        ProxyHeader(family=ProxyFamily.TCP4, source=v4("1.2.3.4", -1), destination=FRONT),
        ProxyHeader(family=ProxyFamily.TCP6, source=v6("fe80::1%eth0", 1), destination=v6("::1", 1)),
        ProxyHeader(family=ProxyFamily.UNIX_STREAM, source=bytes(109), destination=b""),
        ProxyHeader(family=ProxyFamily.UNIX_STREAM, source=b"a\0", destination=b""),
        *(
            ProxyHeader(family=ProxyFamily.TCP4, source=CLIENT, destination=FRONT, tlvs=tlvs)
            for tlvs in (
                ((256, b""),), ((-1, b""),), ((3, bytes(4)),), ((2, b"a"), (2, b"b")), ((5, bytes(129)),),
                ((0x20, b""),), ((0xE0, bytes(2018)),), ((0xE0, bytes(70000)),),
            )
        ),
    ],
    ids=str,
)  # fmt: skip
def test_values_that_cannot_be_written_are_the_callers_mistake(value):
    with pytest.raises(LocalProtocolError):
        value.encode()


# -- another implementation


def test_another_implementation_writes_what_we_read_and_reads_what_we_write():
    """The package proxy-protocol, for what is valid; it takes much that is not."""
    theirs1 = pytest.importorskip("proxyprotocol.v1").ProxyProtocolV1()
    theirs2 = pytest.importorskip("proxyprotocol.v2").ProxyProtocolV2()
    result = importlib.import_module("proxyprotocol.result")
    their_tlvs = importlib.import_module("proxyprotocol.tlv").ProxyProtocolTLV
    chance = random.Random(13)
    for _ in range(200):
        family, host, bits, theirs = chance.choice(
            [
                (ProxyFamily.TCP4, IPv4Address, 32, result.ProxyResultIPv4),
                (ProxyFamily.TCP6, IPv6Address, 128, result.ProxyResultIPv6),
            ]
        )
        source, destination = (ProxyEndpoint(host(chance.getrandbits(bits)), chance.randrange(65536)) for _ in range(2))
        pair = (source.host, source.port), (destination.host, destination.port)
        line = ProxyHeader(version=1, family=family, source=source, destination=destination)
        assert theirs1.pack(theirs(*pair)) == line.encode()
        told = theirs1.unpack(line.encode())
        assert (told.source, told.dest) == pair
        value = ProxyHeader(
            family=family,
            source=source,
            destination=destination,
            tlvs=((2, "gw.ex\u00e4mple".encode()), (5, b"7"), (0xE0, b"")),
        )
        tlvs = their_tlvs(init={0xE0: b""}, authority="gw.ex\u00e4mple", unique_id=b"7")
        written = theirs2.pack(theirs(*pair, protocol=socket.SOCK_STREAM, tlv=tlvs))
        read_back, size = read(written)
        assert size == len(written)
        assert dataclasses.replace(read_back, tlvs=tuple(sorted(read_back.tlvs)), checksum=False) == value
        told = theirs2.unpack(value.encode())
        assert (told.source, told.dest) == pair
        assert (told.tlv.authority, told.tlv.unique_id, told.tlv[0xE0]) == ("gw.ex\u00e4mple", b"7", b"")
