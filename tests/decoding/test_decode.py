"""Trees of recorded conversations, of hostile bytes, and of the secrets that they hide."""

import base64
import contextlib
import dataclasses
import json
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors.load import captures

from acredssp import decoding
from acredssp.decoding import MOST_NODES, MOST_UNITS, Kind, Secret, decode
from acredssp.rdp import ConnectionConfirm, FailureCode
from acredssp.wire import TSPasswordCreds, TSRequest, der, ts_credentials

NEGOTIATE = bytes.fromhex("4e544c4d5353500001000000b78208e2000000000000000000000000000000000a0067580000000f")


def walk(node):
    yield node
    for child in node.children:
        yield from walk(child)


def named(tree, name):
    """The only node of a name."""
    (node,) = [each for each in walk(tree) if each.name == name]
    return node


def faults(tree):
    return [node.fault for node in walk(tree) if node.fault]


def flights(capture):
    """Every unit that a capture holds in clear, whole."""
    for key in ("x224_cr", "x224_cc", "ts_credentials_plain"):
        if capture.get(key):
            yield bytes.fromhex(capture[key])
    yield from (message.data for message in capture.messages)


@pytest.mark.parametrize("capture", captures(), ids=str)
def test_every_recorded_unit_is_decoded_to_its_last_field(capture):
    for data in flights(capture):
        tree = decode(data)
        nodes = list(walk(tree))
        assert faults(tree) == []
        assert not tree.note
        assert [node.name for node in nodes if node.refused or node.note.startswith("unknown")] == []
        assert all(0 <= node.offset <= node.offset + node.size <= len(data) for node in nodes)
        assert len(tree.children) == 1


@pytest.mark.parametrize("capture", captures(), ids=str)
def test_the_fields_are_those_that_another_reader_found(capture):
    for message in capture["messages"]:
        tree, theirs = decode(bytes.fromhex(message["hex"])), message["decoded"]
        (request,) = tree.children
        assert named(request, "version").value == theirs["version"]
        nonces = [node.value.hex() for node in request.children if node.name == "clientNonce"]
        assert nonces == [theirs["client_nonce"]] * (theirs["client_nonce"] is not None)
        names = {node.name for node in request.children}
        for name, key in (("pubKeyAuth", "pub_key_auth"), ("authInfo", "auth_info"), ("errorCode", "error_code")):
            assert (name in names) == (theirs[key] is not None)


@pytest.mark.parametrize("capture", captures(), ids=str)
def test_no_secret_of_a_recorded_unit_is_in_its_tree(capture):
    for data in flights(capture):
        shown = decode(data, show=list(Secret))
        hidden = json.dumps(dataclasses.asdict(decode(data)), default=lambda value: value.hex())
        secrets = [node for node in walk(shown) if node.secret and node.size >= 8]
        for node in secrets:
            value = node.value.hex() if isinstance(node.value, bytes) else node.value
            assert value not in hidden, node.name
        if b"NTLMSSP\0\3" in data:
            assert {"NTProofStr", "EncryptedRandomSessionKey"} <= {node.name for node in secrets}


def test_a_stream_of_several_units_is_taken_apart():
    confirm = ConnectionConfirm(failure_code=FailureCode.HYBRID_REQUIRED_BY_SERVER).encode()
    tree = decode(confirm + bytes.fromhex("15 0303 0002 0228") + TSRequest(6, nego_token=NEGOTIATE).encode())
    assert [unit.name for unit in tree.children] == ["X.224 Connection Confirm", "TLS Alert", "TSRequest"]
    assert named(tree, "failureCode").note == "HYBRID_REQUIRED_BY_SERVER"
    assert named(tree, "description").note == "handshake_failure"
    assert named(tree, "negoToken: NTLM NEGOTIATE_MESSAGE").offset > len(confirm)


def test_the_password_is_hidden_unless_it_is_asked_for_by_name():
    plain = ts_credentials.encode(TSPasswordCreds.of("CONTOSO", "alice", "Passw0rd!"))
    tree = decode(plain)
    assert (named(tree, "userName").value, named(tree, "password").value) == ("alice", None)
    assert named(tree, "password").hidden
    assert named(decode(plain, show=[Secret.PIN]), "password").hidden
    assert named(decode(plain, show=[Secret.PASSWORD]), "password").value == "Passw0rd!"


def test_the_bytes_around_a_fault_hold_no_secret():
    plain = ts_credentials.encode(TSPasswordCreds.of("CONTOSO", "alice", "Passw0rd!"))
    (fault,) = faults(decode(plain[:-20] + b"\xff" + plain[-19:], kind=Kind.TS_CREDENTIALS))
    assert set(fault.around.split()) == {"··"}
    capture = next(each for each in captures() if "ntlm-v6" in str(each))
    token = next(m.data for m in capture.messages if b"NTLMSSP\0\3" in m.data)
    token = token[token.index(b"NTLMSSP") :]
    spoiled = token[:20] + b"\xff\xff" + token[22:]
    (fault,) = faults(decode(spoiled))
    assert (fault.offset, "NtChallengeResponse" in fault.message) == (20, True)


def test_a_fault_has_its_offset_and_the_bytes_around_it():
    data = TSRequest(6, nego_token=NEGOTIATE).encode()
    spoiled = data[:7] + b"\xa7" + data[8:]
    tree = decode(data[:2] + b"\xa1" + data[3:])
    (fault,) = faults(tree)
    assert fault.offset == 4
    assert fault.around_at == 0
    assert fault.around.split()[4] == "02"
    assert [node.note for node in walk(decode(spoiled)) if node.name == "[7]"] == ["unknown"]


def test_what_the_engine_refuses_is_said_below_what_can_be_shown():
    tree = decode(bytes.fromhex("300aa003020106") + b"\xa4\x03\x02\x01\x00"[:5])
    assert named(tree, "errorCode").note == "STATUS_SUCCESS"
    out_of_order = bytes.fromhex("300aa403020100a003020106")
    assert "tag 0xA0" in named(decode(out_of_order), "TSRequest").refused


@pytest.mark.parametrize("scheme", ["CredSSP", "Negotiate", "NTLM"])
def test_tokens_in_http_are_decoded(scheme):
    token = TSRequest(6, nego_token=NEGOTIATE).encode() if scheme == "CredSSP" else NEGOTIATE
    head = f"POST /wsman HTTP/1.1\r\nHost: h\r\nAuthorization: {scheme} {base64.b64encode(token).decode()}\r\n\r\n"
    tree = decode(head.encode())
    assert named(tree, "start line").value == "POST /wsman HTTP/1.1"
    assert [node for node in walk(tree) if node.name.endswith("NTLM NEGOTIATE_MESSAGE")]


@pytest.mark.parametrize(
    "field", ["Authorization: Basic YWxpY2U6UGFzc3cwcmQh", "Proxy-Authorization: Bearer abcdef", "Cookie: id=abcdef"]
)
def test_passwords_and_bearer_tokens_of_http_are_hidden(field):
    data = f"GET / HTTP/1.1\r\n{field}\r\nX-Bad\r\n\r\n".encode()
    tree = decode(data)
    secret = field.split()[-1]
    assert secret not in repr(tree)
    (fault,) = faults(tree)
    assert bytes.fromhex(fault.around.replace("··", "00")).find(secret[-6:].encode()) < 0
    name = field.split(":", maxsplit=1)[0]
    assert secret in named(decode(data, show=[Secret.AUTHORIZATION]), name).value


def test_the_number_of_nodes_is_bounded():
    many = der.encode(der.SEQUENCE, TSRequest(6).encode()[2:] + b"\xa7\0" * 2 * MOST_NODES)
    tree = decode(many)
    assert sum(1 for _ in walk(tree)) == MOST_NODES + 1
    assert "more fields" in tree.note
    tree = decode(TSRequest(6).encode() * (MOST_UNITS + 1))
    assert (len(tree.children), tree.note) == (MOST_UNITS, "the last 7 bytes are not shown")
    assert decode(b"\x15\x03\x03\x00\x00" * 2_500).note == "the last 2500 bytes are not shown"


@given(st.binary(max_size=200), st.sampled_from([None, *Kind]))
def test_no_bytes_make_it_fail(data, kind):
    tree = decode(data, kind=kind)
    assert all(node.offset >= 0 for node in walk(tree))


@given(st.data())
def test_no_recorded_unit_with_other_bytes_in_it_makes_it_fail(draw):
    units = sorted({data for capture in captures()[::7] for data in flights(capture)})
    data = bytearray(draw.draw(st.sampled_from(units)))
    for at, value in draw.draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=8)):
        data[at] = value
    tree = decode(bytes(data))
    assert tree.children


def test_the_names_of_the_package_are_its_door():
    assert set(decoding.__all__) >= {"decode", "Node", "Kind", "Secret"}


@pytest.mark.parametrize("field", range(6))
@pytest.mark.parametrize("tag", [0xA0, 0xA1])
def test_a_field_of_spnego_without_content_is_a_fault(tag, field):
    token = der.encode(tag, der.encode(der.SEQUENCE, der.encode(der.CONTEXT + field, b"")))
    assert faults(decode(token)) or field > 3
    assert decode(TSRequest(6, nego_token=token).encode()).children


def test_a_spoilt_byte_shows_no_password():
    plain = ts_credentials.encode(TSPasswordCreds.of("CONTOSO", "alice", "Zebra-Passw0rd!"))
    secret = "Zebra-Passw0rd!".encode("utf-16-le")
    for at in range(len(plain)):
        for value in (0x00, 0x30, 0x5A, 0xA1, plain[at] ^ 1):
            spoilt = plain[:at] + bytes([value]) + plain[at + 1 :]
            shown = repr(decode(spoilt)) + json.dumps(dataclasses.asdict(decode(spoilt)), default=bytes.hex)
            assert secret[:16].hex() not in shown.replace(" ", ""), at
            assert "Zebra-P" not in shown, at


@pytest.mark.thorough
def test_a_spoilt_byte_shows_no_proof_of_the_password():
    capture = next(each for each in captures() if str(each) == "freerdp3.10-ntlm-v6")
    data = next(message.data for message in capture.messages if b"NTLMSSP\0\3" in message.data)
    (proof,) = [node.value for node in walk(decode(data, show=list(Secret))) if node.name == "NTProofStr"]
    start = data.index(b"NTLMSSP")
    for at in range(start + 64):
        for value in (0x00, 0x30, 0x5A, data[at] ^ 1, data[at] ^ 0x10):
            spoilt = data[:at] + bytes([value]) + data[at + 1 :]
            shown = json.dumps(dataclasses.asdict(decode(spoilt)), default=bytes.hex)
            assert proof[:8].hex() not in shown.replace(" ", ""), at


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\nauthorization : Basic Zebra-Pw\r\n\r\n", "GET / HTTP/1.1\nAuthorization: Basic Zebra-Pw\n\n",
        "GET / HTTP/1.1\r\n\0Authorization: Basic Zebra-Pw\r\n\r\n", "GET http://u:Zebra-Pw@h/ HTTP/1.1\r\n\r\n",
        "GET /?t=Zebra-Pw HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nX-Api-Key: Zebra-Pw\r\n\r\n",
        "GET / HTTP/1.1\r\nAuthorization: Basic\r\n Zebra-Pw\r\n\r\n",
    ],
)  # fmt: skip
def test_no_writing_of_a_header_shows_its_password(head):
    tree = decode(head.encode())
    assert "Zebra-Pw" not in repr(tree)
    around = "".join(fault.around for fault in faults(tree)).replace(" ", "")
    assert b"Zebra-Pw".hex() not in around
    assert tree.children[0].name == "HTTP request"


def test_a_header_with_bare_line_feeds_has_its_token():
    head = f"HTTP/1.1 401 no\nWWW-Authenticate: NTLM {base64.b64encode(NEGOTIATE).decode()}\n\n"
    tree = decode(head.encode())
    assert faults(tree) == []
    assert [node for node in walk(tree) if node.name.endswith("NTLM NEGOTIATE_MESSAGE")]


def test_a_client_hello_has_its_versions_suites_and_name():
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="server.contoso.example")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    tree = decode(outgoing.read())
    assert "TLS 1.3" in named(tree, "versions offered").value
    assert "AES_256_GCM_SHA384" in named(tree, "cipher suites").value
    assert named(tree, "server name").value == "server.contoso.example"
