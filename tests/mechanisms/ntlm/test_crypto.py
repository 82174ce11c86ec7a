"""The published vectors of [MS-NLMP] 4.2.4, and values computed with the same keys where it publishes none."""

import hashlib
import hmac
import os

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from acredssp.errors import LocalProtocolError, PolicyError, RemoteProtocolError
from acredssp.mechanisms.ntlm import crypto
from acredssp.mechanisms.ntlm.crypto import SealingHandle
from acredssp.status import SecurityStatus

NT_HASH = bytes.fromhex("a4f49c406510bdcab6824ee7c30fd852")
DOMAIN = "Domain".encode("utf-16-le")
SERVER_CHALLENGE = bytes.fromhex("0123456789abcdef")
TEMP = bytes.fromhex(
    "01010000000000000000000000000000aaaaaaaaaaaaaaaa0000000002000c0044006f006d00610069006e0001000c00530065007200"
    "7600650072000000000000000000"
)
RESPONSE_KEY = bytes.fromhex("0c868a403bfd7a93a3001ef22ef02e3f")
PROOF = bytes.fromhex("68cd0ab851e51c96aabc927bebef6a1c")
SESSION_BASE_KEY = bytes.fromhex("8de40ccadbc14a82f15cb0ad0de95ca3")
SESSION_KEY = b"\x55" * 16
PLAINTEXT = "Plaintext".encode("utf-16-le")
NTLM_ONLY = bytes.fromhex("300c060a2b06010401823702020a")


@pytest.fixture(params=["_openssl_keystream", "_small_keystream"], autouse=True)
def keystream(request, monkeypatch):
    """Either implementation of RC4."""
    if request.param == "_small_keystream":
        pytest.importorskip("arc4", reason="arc4 is not installed: pip install arc4")
    monkeypatch.setattr(crypto, "_keystream", getattr(crypto, request.param))


def client_to_server():
    return SealingHandle(SESSION_KEY, from_initiator=True)


def server_to_client():
    return SealingHandle(SESSION_KEY, from_initiator=False)


@pytest.mark.requirement("ntlm.vectors")
def test_ntowf_v2_of_ms_nlmp():
    assert crypto.ntowf_v2(NT_HASH, "User", DOMAIN) == RESPONSE_KEY


def test_ntowf_v2_without_domain():
    assert crypto.ntowf_v2(NT_HASH, "User", b"").hex() == "4cf86da43b3cd4785ab26bcee1e1884b"


@pytest.mark.requirement("ntlm.vectors")
def test_nt_proof_and_session_base_key_of_ms_nlmp():
    assert crypto.nt_proof(RESPONSE_KEY, SERVER_CHALLENGE, TEMP) == PROOF
    assert crypto.hmac_md5(RESPONSE_KEY, PROOF) == SESSION_BASE_KEY


def test_lm_v2_response_of_ms_nlmp():
    assert crypto.hmac_md5(RESPONSE_KEY, SERVER_CHALLENGE + b"\xaa" * 8).hex() == "86c35097ac9cec102554764a57cccc19"


@pytest.mark.requirement("ntlm.vectors")
def test_encrypted_session_key_of_ms_nlmp():
    assert crypto.rc4(SESSION_BASE_KEY, SESSION_KEY).hex() == "c5dad2544fc9799094ce1ce90bc9d03e"


@pytest.mark.parametrize("key", [bytes(16), b"\xff" * 16, bytes(range(16)), NT_HASH], ids=bytes.hex)
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000])
def test_hmac_md5_is_the_standard_librarys(key, size):
    message = os.urandom(size)
    expected = hmac.digest(key, message, "md5")
    assert crypto.hmac_md5(key, message) == expected
    assert crypto.hmac_md5_of(crypto.hmac_blocks(key), message) == expected


@pytest.mark.requirement("ntlm.vectors")
def test_first_message_of_ms_nlmp():
    assert client_to_server().wrap(PLAINTEXT).hex() == (
        "010000007fb38ec5c55d497600000000" + "54e50165bf1936dc996020c1811b0f06fb5f"
    )


def test_sealed_messages_continue_one_stream_each_way():
    client, server = client_to_server(), server_to_client()
    client.wrap(PLAINTEXT)
    assert client.wrap(PLAINTEXT).hex() == "01000000255405955d31d8c40100000064c308e09ea236e7f4232553c94a01e700fa"
    assert server.wrap(PLAINTEXT).hex() == "01000000b298b847ce7c580700000000160871b730ba74e946c453d7465b54278dd0"
    assert server.wrap(PLAINTEXT).hex() == "010000001c358b931a2feeb2010000003db8ae180836dceebba76946aab5e969c977"


@pytest.mark.requirement("spnego.mic-sequence")
def test_mic_takes_a_sequence_number_and_gives_the_stream_back():
    client, server = client_to_server(), server_to_client()
    assert client.get_mic(NTLM_ONLY).hex() == "0100000022a3984fefbb9c3200000000"
    assert server.get_mic(NTLM_ONLY).hex() == "010000007dd6da05648a73ae00000000"
    assert client.wrap(PLAINTEXT).hex() == "010000001deafbcced2a4ea90100000054e50165bf1936dc996020c1811b0f06fb5f"
    assert server.wrap(PLAINTEXT).hex() == "01000000402afecc9e41bb4601000000160871b730ba74e946c453d7465b54278dd0"


def test_receiver_follows_the_sender_through_mic_and_messages():
    sender, receiver = client_to_server(), client_to_server()
    receiver.verify_mic(NTLM_ONLY, sender.get_mic(NTLM_ONLY))
    for plaintext in (PLAINTEXT, b"", b"x" * 70_000):
        assert receiver.unwrap(sender.wrap(plaintext)) == plaintext


@pytest.mark.parametrize("sizes", [(0, 3, 20), (3, 9), (7, 1), (8,), (9, 8), (70_000,)], ids=str)
def test_messages_after_a_mic_are_sealed_from_the_beginning_of_the_stream(sizes):
    sender, plain = client_to_server(), client_to_server()
    sender.get_mic(NTLM_ONLY)
    plain._sequence = 1
    for size in sizes:
        assert sender.wrap(bytes(size)) == plain.wrap(bytes(size))


def test_mic_behind_a_sealed_message_is_refused():
    sender, receiver = client_to_server(), client_to_server()
    receiver.unwrap(sender.wrap(PLAINTEXT))
    for handle in (sender, receiver):
        with pytest.raises(LocalProtocolError, match="before the first sealed message"):
            handle.get_mic(NTLM_ONLY)
        with pytest.raises(LocalProtocolError, match="before the first sealed message"):
            handle.verify_mic(NTLM_ONLY, bytes(16))
    assert receiver.unwrap(sender.wrap(PLAINTEXT)) == PLAINTEXT


@pytest.mark.requirement("defect.short-seal")
@pytest.mark.parametrize("size", range(16))
def test_sealed_message_shorter_than_a_signature_is_altered(size):
    with pytest.raises(RemoteProtocolError) as caught:
        client_to_server().unwrap(bytes(size))
    assert caught.value.security_status is SecurityStatus.SEC_E_MESSAGE_ALTERED


@pytest.mark.parametrize("size", [0, 15, 16, 16 + len(PLAINTEXT)])
@pytest.mark.parametrize("mic_before", [False, True])
def test_a_handle_that_has_failed_unseals_nothing_more(size, mic_before):
    sender, receiver = client_to_server(), client_to_server()
    if mic_before:
        receiver.verify_mic(NTLM_ONLY, sender.get_mic(NTLM_ONLY))
    sealed = sender.wrap(PLAINTEXT)
    with pytest.raises(RemoteProtocolError):
        receiver.unwrap(bytes(size))
    with pytest.raises(LocalProtocolError, match="has failed"):
        receiver.unwrap(sealed)


@pytest.mark.parametrize("position", range(16 + len(PLAINTEXT)))
def test_every_altered_byte_of_a_sealed_message_is_noticed(position):
    sealed = bytearray(client_to_server().wrap(PLAINTEXT))
    sealed[position] ^= 1
    with pytest.raises(RemoteProtocolError) as caught:
        client_to_server().unwrap(bytes(sealed))
    expected = SecurityStatus.SEC_E_OUT_OF_SEQUENCE if 12 <= position < 16 else SecurityStatus.SEC_E_MESSAGE_ALTERED
    assert caught.value.security_status is expected


def test_each_message_has_the_next_number():
    sender = client_to_server()
    numbers = [int.from_bytes(sender.wrap(PLAINTEXT)[12:16], "little") for _ in range(4)]
    assert numbers == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [2, 3])
def test_a_message_that_is_missing_is_told_by_its_number(count):
    sender, receiver = client_to_server(), client_to_server()
    receiver.unwrap(sender.wrap(PLAINTEXT))
    for _ in range(count):
        sealed = sender.wrap(PLAINTEXT)
    with pytest.raises(RemoteProtocolError, match=f"expected the sealed message with sequence number 1, got {count}$"):
        receiver.unwrap(sealed)


def test_text_that_is_no_unicode_is_encoded_as_it_came():
    """Windows lets half a surrogate pair into a name."""
    assert crypto.encode_text("a\ud800") == b"a\0\0\xd8"


UTF16 = {name: name.encode("utf-16-le") for name in ("ALICE", "ALı", "ALI", "D")}


@pytest.mark.parametrize(
    ("user", "domain", "names"),
    [
        ("alice", "", ["ALICE"]),
        ("alice", "D", ["ALICE+D", "ALICE"]),
        ("alı", "", ["ALı", "ALI"]),
        ("alı", "D", ["ALı+D", "ALI+D", "ALı", "ALI"]),
    ],
)
def test_a_key_may_be_made_of_these_names_and_no_others(user, domain, names):
    expected = [b"".join(UTF16[part] for part in name.split("+")) for name in names]
    assert crypto.keyed_names(user, domain.encode("utf-16-le")) == expected


def test_repeated_message_is_out_of_sequence():
    receiver, sealed = client_to_server(), client_to_server().wrap(PLAINTEXT)
    receiver.unwrap(sealed)
    with pytest.raises(RemoteProtocolError) as caught:
        receiver.unwrap(sealed)
    assert caught.value.security_status is SecurityStatus.SEC_E_OUT_OF_SEQUENCE


@pytest.mark.parametrize("mic", [b"", b"\1", bytes(15), bytes(16), bytes(17), bytes(100)])
def test_mic_of_any_other_bytes_is_refused(mic):
    with pytest.raises(RemoteProtocolError):
        client_to_server().verify_mic(NTLM_ONLY, mic)


def test_message_reflected_to_its_sender_is_refused():
    sealed = client_to_server().wrap(PLAINTEXT)
    with pytest.raises(RemoteProtocolError):
        server_to_client().unwrap(sealed)


def test_missing_rc4_is_a_policy_error_with_a_hint(monkeypatch):
    def refuse(_):
        raise UnsupportedAlgorithm("no arc4")

    monkeypatch.setattr(crypto.Cipher, "encryptor", refuse)
    monkeypatch.setattr(crypto, "_keystream", crypto._openssl_keystream)
    with pytest.raises(PolicyError, match="legacy provider"):
        crypto.rc4(SESSION_KEY, b"")


def test_channel_bindings_hash_is_pyspnegos():
    from spnego.channel_bindings import GssChannelBindings  # noqa: PLC0415 -- the oracle of this test alone

    application_data = b"tls-server-end-point:" + bytes(range(32))
    packed = GssChannelBindings(application_data=application_data).pack()
    assert crypto.channel_bindings_hash(application_data) == hashlib.md5(packed, usedforsecurity=False).digest()


@pytest.mark.parametrize("sizes", [(3, 2, 20), (8, 1), (0, 5), (200, 3)])
def test_a_mech_list_mic_uses_bytes_of_the_stream_that_sealed_messages_use_again(sizes):
    with_mic, without, peer = (SealingHandle(bytes(16), from_initiator=True) for _ in range(3))
    mics = [with_mic.get_mic(b"list"), with_mic.get_mic(b"list")]
    assert mics[0][4:12] != mics[1][4:12]  # the sequence number is signed, too
    for mic in mics:
        peer.verify_mic(b"list", mic)
    for size in sizes:
        message = bytes(range(size))
        sealed = with_mic.wrap(message)
        assert sealed[16:] == without.wrap(message)[16:]
        assert peer.unwrap(sealed) == message
    with pytest.raises(LocalProtocolError, match="expected a mechListMIC before the first sealed message"):
        with_mic.get_mic(b"list")
