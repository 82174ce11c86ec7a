"""The initiator: what it sends, and which challenges it does not answer."""

import struct

import pytest
from support.ntlm import ALICE, IDENTITY, SPN, acceptor, assert_sealed_both_ways, converse, initiator
from vectors.load import captures

from acredssp.credentials import NTHash, Password
from acredssp.errors import CredSSPError, LocalProtocolError, PolicyError, RemoteProtocolError
from acredssp.mechanisms.ntlm import crypto
from acredssp.mechanisms.ntlm.context import REQUIRED_FLAGS
from acredssp.mechanisms.ntlm.initiator import NTLMCredential, NTLMInitiator
from acredssp.mechanisms.ntlm.messages import (
    AuthenticateMessage,
    AvId,
    ChallengeMessage,
    Flags,
    NTLMv2Response,
    decode_av_pairs,
    encode_av_pairs,
)
from acredssp.status import SecurityStatus

FLAGS = 0xE28A8235
NAMES = {AvId.NB_DOMAIN_NAME: b"D\0", AvId.NB_COMPUTER_NAME: b"S\0"}
TIMESTAMP = (133_444_736_001_234_567).to_bytes(8, "little")


def challenge(pairs=NAMES, *, flags=FLAGS, info=None):
    return ChallengeMessage.encode(flags, b"12345678", b"S\0", encode_av_pairs(pairs) if info is None else info)


def answer(token, **options):
    """The AUTHENTICATE with which an initiator answers a challenge, and its NTLMv2 response."""
    client = initiator(**options)
    client.step(b"")
    message = AuthenticateMessage.decode(client.step(token))
    assert client.complete
    return message, NTLMv2Response.decode(message.nt_response)


def test_negotiate_asks_for_all_that_credssp_needs_and_gives_no_names():
    token = initiator().step(b"")
    assert len(token) == 40
    assert int.from_bytes(token[12:16], "little") == 0xE2088235
    assert token[16:32] == bytes(16)


@pytest.mark.requirement("ntlm.mic")
def test_authenticate_has_the_layout_of_windows():
    message, response = answer(challenge({**NAMES, AvId.TIMESTAMP: TIMESTAMP}))
    assert message.payload_offset == 88
    assert message.flags == 0xE2888235 & ~0x00800000 | FLAGS & 0x00800000
    assert (message.domain.decode("utf-16-le"), message.user.decode("utf-16-le")) == ("CONTOSO", "alice")
    assert message.workstation.decode("utf-16-le") == "PC"
    assert message.lm_response == bytes(24)
    assert list(response.av_pairs) == [2, 1, 7, 6, 10, 9]
    assert response.av_pairs[AvId.FLAGS] == b"\2\0\0\0"
    assert response.av_pairs[AvId.CHANNEL_BINDINGS] == bytes(16)
    assert response.av_pairs[AvId.TARGET_NAME].decode("utf-16-le") == SPN
    assert response.temp[8:16] == TIMESTAMP
    assert response.temp.endswith(bytes(8))


def test_time_is_the_servers_and_without_one_our_own():
    message, response = answer(challenge(), now=lambda: 0x0102030405060708)
    assert response.temp[8:16] == bytes.fromhex("0807060504030201")
    assert response.mic_announced
    # Without a timestamp the LMv2 response is sent ([MS-NLMP] 3.1.5.1.2).
    key = crypto.ntowf_v2(ALICE.nt_hash, "alice", "CONTOSO".encode("utf-16-le"))
    client_challenge = message.lm_response[16:]
    assert message.lm_response[:16] == crypto.hmac_md5(key, b"12345678" + client_challenge)
    assert client_challenge == response.temp[16:24]


def test_a_name_as_long_as_a_time_is_no_time():
    """Behind the other name, a pair of 8 bytes stands where a server's time usually does."""
    _, response = answer(
        challenge({AvId.NB_DOMAIN_NAME: b"D\0", AvId.NB_COMPUTER_NAME: b"S\0R\0V\0X\0"}), now=lambda: 7
    )
    assert response.temp[8:16] == (7).to_bytes(8, "little")


def test_target_info_without_its_end_is_refused():
    info = encode_av_pairs({**NAMES, AvId.TIMESTAMP: TIMESTAMP})
    client = initiator()
    client.step(b"")
    with pytest.raises(RemoteProtocolError):
        client.step(challenge(info=info[:-4] + b"\1\0\0\0"))


@pytest.mark.parametrize(("size", "fits"), [(0xFFFF, True), (0x10000, False)])
def test_an_answer_is_as_long_as_its_length_can_say(size, fits):
    client = initiator(target_name="")
    _, short = answer(challenge({**NAMES, AvId.TIMESTAMP: TIMESTAMP, 200: b""}), target_name="")
    more = size - len(short.proof) - len(short.temp)
    client.step(b"")
    token = challenge({**NAMES, AvId.TIMESTAMP: TIMESTAMP, 200: bytes(more)})
    if fits:
        assert len(AuthenticateMessage.decode(client.step(token)).nt_response) == size
    else:
        with pytest.raises(RemoteProtocolError, match="too many for an answer"):
            client.step(token)


def test_target_info_that_is_empty_lacks_the_names():
    client = initiator()
    client.step(b"")
    with pytest.raises(RemoteProtocolError, match="netbios names, got none"):
        client.step(challenge(info=b""))


def test_what_a_challenge_lacks_is_listed():
    client = initiator()
    client.step(b"")
    with pytest.raises(
        PolicyError, match=r"^ntlm challenge: expected 128-bit sealing with key exchange, got no SIGN, SEAL$"
    ):
        client.step(challenge(flags=FLAGS & ~(Flags.SIGN | Flags.SEAL)))


def test_a_context_is_not_complete_before_it_has_begun():
    assert initiator().complete is acceptor().complete is False


def test_spnego_needs_a_mic_because_ntlm_has_one():
    client = initiator()
    client.step(b"")
    client.step(challenge())
    assert client.needs_mech_list_mic is True


def test_no_workstation_is_named_unless_it_is_given():
    assert NTLMCredential(ALICE).workstation == b""


def test_flags_of_the_server_are_kept_beside_the_mic_bit():
    _, response = answer(challenge({**NAMES, AvId.FLAGS: b"\1\0\0\0"}))
    assert response.av_pairs[AvId.FLAGS] == b"\3\0\0\0"


def test_pairs_that_both_have_are_ours_in_the_servers_order():
    theirs = {AvId.TARGET_NAME: b"x\0", **NAMES, AvId.CHANNEL_BINDINGS: b"y" * 16, AvId.FLAGS: bytes(4), 200: b"z"}
    _, response = answer(challenge(theirs))
    assert list(response.av_pairs) == list(theirs)
    assert response.av_pairs == theirs | {
        AvId.TARGET_NAME: SPN.encode("utf-16-le"),
        AvId.CHANNEL_BINDINGS: bytes(16),
        AvId.FLAGS: b"\2\0\0\0",
    }


def test_server_time_of_zero_is_none():
    message, response = answer(challenge({**NAMES, AvId.TIMESTAMP: bytes(8)}), now=lambda: 7)
    assert response.temp[8:16] == (7).to_bytes(8, "little")
    assert message.lm_response == bytes(24)


def test_credential_serves_any_number_of_logons_and_shows_no_secret():
    credential = NTLMCredential(ALICE)
    for _ in range(3):
        client, server = NTLMInitiator(credential, target_name=SPN), acceptor()
        converse(client, server)
        assert_sealed_both_ways(client, server)
    key = crypto.ntowf_v2(ALICE.nt_hash, "alice", "CONTOSO".encode("utf-16-le"))
    assert credential.hmac(b"x") == crypto.hmac_md5(key, b"x")
    for secret in (ALICE.nt_hash, key, *crypto.hmac_blocks(key)):
        assert repr(secret)[2:-1] not in repr(credential) + str(credential)


@pytest.mark.requirement("ntlm.upper-case")
@pytest.mark.parametrize(("user", "keyed"), [("Νίκος", "ΝΊΚΟς"), ("yıldız", "YıLDıZ"), ("გიორგი", "გიორგი")])
def test_the_users_name_is_put_into_upper_case_as_windows_does(user, keyed):
    key = crypto.hmac_md5(ALICE.nt_hash, (keyed + "CONTOSO").encode("utf-16-le"))
    credential = NTLMCredential(Password("Passw0rd!", user, "CONTOSO"))
    assert credential.user.decode("utf-16-le") == user
    assert credential.hmac(b"x") == crypto.hmac_md5(key, b"x")


def test_without_spn_no_target_name_is_sent():
    _, response = answer(challenge(), target_name="")
    assert AvId.TARGET_NAME not in response.av_pairs


@pytest.mark.requirement("defect.channel-bindings")
def test_channel_bindings_are_hashed_in():
    _, response = answer(challenge(), channel_bindings=b"tls-server-end-point:x")
    assert response.av_pairs[AvId.CHANNEL_BINDINGS] == crypto.channel_bindings_hash(b"tls-server-end-point:x")


def test_user_principal_name_goes_as_it_is():
    credential = Password("Passw0rd!", "alice@contoso.test")
    message, _ = answer(challenge(), credential=credential)
    assert (message.domain, message.user.decode("utf-16-le")) == (b"", "alice@contoso.test")


def test_version_is_zeros_where_the_server_does_not_speak_of_it():
    message, _ = answer(challenge(flags=FLAGS & ~Flags.VERSION))
    assert message.raw[64:72] == bytes(8)


def test_randomness_comes_from_the_argument():
    message, response = answer(challenge(), random=lambda size: b"r" * size)
    assert response.temp[16:24] == b"r" * 8
    key = crypto.ntowf_v2(ALICE.nt_hash, "alice", "CONTOSO".encode("utf-16-le"))
    assert crypto.rc4(crypto.hmac_md5(key, response.proof), message.encrypted_session_key) == b"r" * 16


@pytest.mark.parametrize("credential", [ALICE, NTHash(ALICE.nt_hash, "alice", "CONTOSO")], ids=["password", "hash"])
def test_password_and_hash_log_on(credential):
    client, server = initiator(credential), acceptor()
    assert [len(token) > 30 for token in converse(client, server)] == [True] * 3
    assert_sealed_both_ways(client, server)
    assert str(server.principal) == "CONTOSO\\alice"


@pytest.mark.parametrize("flag", [flag for flag in Flags if flag & REQUIRED_FLAGS], ids=lambda flag: flag.name)
def test_challenge_that_weakens_is_not_answered(flag):
    client = initiator()
    client.step(b"")
    with pytest.raises(CredSSPError, match=flag.name) as caught:
        client.step(challenge(flags=FLAGS & ~flag))
    unicode = flag is Flags.UNICODE
    assert isinstance(caught.value, RemoteProtocolError if unicode else PolicyError)
    expected = SecurityStatus.SEC_E_INVALID_TOKEN if unicode else SecurityStatus.SEC_E_UNSUPPORTED_FUNCTION
    assert caught.value.security_status is expected
    assert not client.complete


@pytest.mark.requirement("defect.ntlm-lengths-client")
@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"NTLMSSP\0",
        b"\x60\x10",
        challenge({}),
        challenge(info=b""),
        challenge({AvId.DNS_DOMAIN_NAME: b"d\0"}),
        challenge({**NAMES, AvId.TIMESTAMP: b"1234567"}),
        challenge(info=encode_av_pairs(NAMES)[:-4]),
        challenge(info=b"\1\0\xff\xff\0\0"),
        challenge({**NAMES, 200: b"x" * 65_000, 201: b"x" * 500}),
    ],
    ids=[
        "empty", "header", "der", "no pairs", "no info", "no netbios name", "timestamp of 7 bytes", "no eol",
        "pair past the end", "too much to send back",
    ],
)  # fmt: skip
def test_challenge_that_is_none_is_refused(token):
    client = initiator()
    client.step(b"")
    with pytest.raises(RemoteProtocolError):
        client.step(token)
    assert not client.complete
    with pytest.raises(LocalProtocolError):
        client.step(token)


@pytest.mark.requirement("defect.ntlm-truncation", "defect.ntlm-lengths-client")
def test_every_truncation_of_a_challenge_is_refused():
    token = challenge()
    for size in range(len(token)):
        client = initiator()
        client.step(b"")
        with pytest.raises(RemoteProtocolError):
            client.step(token[:size])


def test_own_negotiate_and_authenticate_are_no_challenge():
    client, server = initiator(), acceptor()
    for token in (client.step(b""), answer(server.step(initiator().step(b"")))[0].raw):
        fresh = initiator()
        fresh.step(b"")
        with pytest.raises(RemoteProtocolError, match="type 2"):
            fresh.step(token)


def test_server_that_speaks_first_is_refused():
    with pytest.raises(RemoteProtocolError):
        initiator().step(challenge())


def test_token_after_completion_is_refused():
    client = initiator()
    client.step(b"")
    client.step(challenge())
    with pytest.raises(RemoteProtocolError):
        client.step(challenge())


def test_sealing_before_completion_is_a_local_error():
    client = initiator()
    for call in (client.wrap, client.unwrap, client.get_mic):
        with pytest.raises(LocalProtocolError):
            call(b"")
    with pytest.raises(LocalProtocolError):
        client.verify_mic(b"", b"")
    with pytest.raises(LocalProtocolError):
        client.resume(ALICE)


def test_failed_unwrap_ends_the_context():
    client, server = initiator(), acceptor()
    converse(client, server)
    sealed = server.wrap(b"hello")
    with pytest.raises(RemoteProtocolError):
        client.unwrap(sealed[:-1])
    with pytest.raises(LocalProtocolError):
        client.unwrap(sealed)


def pair(av_id, value):
    return struct.pack("<HH", av_id, len(value)) + value


DOMAIN, COMPUTER, DNS = (pair(AvId.NB_DOMAIN_NAME, b"D\0"), pair(AvId.NB_COMPUTER_NAME, b"C\0"),
                         pair(AvId.DNS_COMPUTER_NAME, b"c\0"))  # fmt: skip
TIME, OTHER_TIME = pair(AvId.TIMESTAMP, TIMESTAMP), pair(AvId.TIMESTAMP, bytes(range(8)))
FLAGS_PAIR = pair(AvId.FLAGS, b"\4\0\0\0")
OUR_FLAGS = pair(AvId.FLAGS, b"\2\0\0\0")
OURS = pair(AvId.CHANNEL_BINDINGS, bytes(16)) + pair(AvId.TARGET_NAME, "TERMSRV/host".encode("utf-16-le"))
EOL = bytes(4)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (DOMAIN + COMPUTER + TIME + EOL, DOMAIN + COMPUTER + TIME + OUR_FLAGS + OURS),
        (DNS + COMPUTER + TIME + EOL, DNS + COMPUTER + TIME + OUR_FLAGS + OURS),
        (COMPUTER + TIME + DOMAIN + EOL, COMPUTER + TIME + DOMAIN + OUR_FLAGS + OURS),
        (COMPUTER + COMPUTER + TIME + EOL, COMPUTER + TIME + OUR_FLAGS + OURS),
        (COMPUTER + FLAGS_PAIR + TIME + EOL, COMPUTER + pair(AvId.FLAGS, b"\6\0\0\0") + TIME + OURS),
        (COMPUTER + OTHER_TIME + TIME + EOL, COMPUTER + OTHER_TIME + OUR_FLAGS + OURS),
        (COMPUTER + EOL + DOMAIN + TIME + EOL, COMPUTER + OUR_FLAGS + OURS),
        (COMPUTER + TIME + EOL + b"behind", COMPUTER + TIME + OUR_FLAGS + OURS),
        (COMPUTER + pair(AvId.CHANNEL_BINDINGS, b"x" * 16) + TIME + EOL,
         COMPUTER + OURS[:20] + TIME + OUR_FLAGS + OURS[20:]),
        (COMPUTER + pair(AvId.TARGET_NAME, b"x\0") + TIME + EOL,
         COMPUTER + OURS[20:] + TIME + OUR_FLAGS + OURS[:20]),
        (COMPUTER + pair(99, b"unknown") + TIME + EOL, COMPUTER + pair(99, b"unknown") + TIME + OUR_FLAGS + OURS),
        (pair(AvId.NB_DOMAIN_NAME, bytes(1500)) + TIME + EOL,
         pair(AvId.NB_DOMAIN_NAME, bytes(1500)) + TIME + OUR_FLAGS + OURS),
    ],
)  # fmt: skip
@pytest.mark.parametrize("again", [False, True])
def test_the_servers_pairs_come_back_in_their_order_with_ours_behind(info, expected, again):
    for _ in range(1 + again):
        _, response = answer(challenge(info=info), target_name="TERMSRV/host")
        assert response.temp[28:-4] == expected + EOL


@pytest.mark.parametrize("info", [TIME + EOL, DNS + TIME + EOL, COMPUTER[:-1] + TIME + EOL], ids=["none", "dns", "cut"])
def test_target_info_without_netbios_names_is_refused_each_time(info):
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            answer(challenge(info=info))


def test_a_failed_mic_ends_the_context_too():
    client, server = initiator(), acceptor()
    converse(client, server)
    with pytest.raises(RemoteProtocolError):
        client.verify_mic(b"list", bytes(16))
    with pytest.raises(LocalProtocolError):
        client.unwrap(server.wrap(b"hello"))


def test_what_seals_is_there_once_the_context_is_complete():
    client, server = initiator(), acceptor()
    for context in (client, server):
        with pytest.raises(LocalProtocolError):
            _ = context.sealing
    converse(client, server)
    seal, _ = client.sealing
    _, unseal = server.sealing
    assert unseal(seal(b"one")) == b"one"
    assert server.unwrap(client.wrap(b"two")) == b"two"  # of the same streams
    assert unseal(seal(b"three")) == b"three"


def recorded_challenges():
    found = {}
    for capture in captures():
        for message in capture.messages:
            for text in message.decoded["nego_tokens"] or ():
                at = text.find("4e544c4d5353500002000000")
                if at >= 0:
                    found.setdefault(capture.name, bytes.fromhex(text[at:]))
    return sorted(found.items())


@pytest.mark.parametrize(("name", "token"), recorded_challenges(), ids=[name for name, _ in recorded_challenges()])
def test_challenge_of_every_recorded_server_is_answered(name, token):
    message, response = answer(token)
    key = crypto.ntowf_v2(ALICE.nt_hash, "alice", message.domain)
    assert response.proof == crypto.nt_proof(key, token[24:32], response.temp)
    theirs = decode_av_pairs(ChallengeMessage.decode(token).target_info, name)
    if AvId.FLAGS in theirs:  # gss-ntlmssp sends flags of zero
        theirs[AvId.FLAGS] = b"\2\0\0\0"
    assert {av_id: response.av_pairs[av_id] for av_id in theirs} == theirs


def test_identity_names_stand_in_the_challenge_in_the_order_of_windows():
    token = acceptor(now=lambda: 7, random=bytes).step(initiator().step(b""))
    message = ChallengeMessage.decode(token)
    assert message.flags == 0xE2898235 & ~Flags.TARGET_TYPE_SERVER | Flags.TARGET_TYPE_DOMAIN
    assert message.target_name.decode("utf-16-le") == "CONTOSO"
    pairs = decode_av_pairs(message.target_info, "test")
    assert list(pairs) == [2, 1, 4, 3, 7]
    assert pairs[AvId.NB_COMPUTER_NAME].decode("utf-16-le") == IDENTITY.netbios_computer
    assert pairs[AvId.TIMESTAMP] == (7).to_bytes(8, "little")
    assert message.server_challenge == bytes(8)
