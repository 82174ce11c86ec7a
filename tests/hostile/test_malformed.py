"""Lies about structure, through the whole engine at every stage of a real conversation, on both sides.

The codecs have their own tests of this kind (tests/wire, tests/mechanisms); here what is held is that nothing but a
`CredSSPError` leaves an engine that is in the middle of something, and that nobody is let in or given credentials.
FreeRDP (CVE-2018-8789, CVE-2020-11086 to 11088, 11097, 13396), rdesktop (CVE-2018-8792, CVE-2018-8793), gss-ntlmssp
(CVE-2023-25563 to 25567), curl (CVE-2018-16890, CVE-2019-3822), Heimdal (CVE-2021-44758), Windows' NEGOEX
(CVE-2022-37958, CVE-2025-47981) and CredSSP (CVE-2025-47987), bcder (CVE-2023-39914).
"""

import dataclasses
import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.logon import DELEGATED, MECHANISMS, attack, bare_pair, carries, established, flights
from vectors.hostile import replacements

from acredssp.errors import CredSSPError, LimitExceeded, RemoteProtocolError
from acredssp.policy import MechanismChoice, Policy
from acredssp.status import SecurityStatus
from acredssp.wire import der, spnego, ts_credentials
from acredssp.wire.ts_request import TSRequest

NUMBER_OF_FLIGHTS = {MechanismChoice.NTLM: 5, MechanismChoice.NEGOTIATE: 7}
STAGES = [(mechanism, stage) for mechanism in MECHANISMS for stage in range(NUMBER_OF_FLIGHTS[mechanism])]
every_stage = pytest.mark.parametrize(("mechanism", "stage"), STAGES)


def spoil(mechanism, stage, change):
    """A conversation of which one message, counted from 0, is changed on its way; both ends."""
    ends = bare_pair(mechanism)
    attack(*ends, lambda number, direction, flight: change(flight) if number == stage else flight)
    return ends


def test_a_conversation_left_alone_succeeds():
    """What every attack below is measured against."""
    for mechanism in MECHANISMS:
        ends = bare_pair(mechanism)
        attack(*ends)
        assert all(map(established, ends))
        said = [flight for flight in flights(mechanism) if flight]
        assert len(said) == NUMBER_OF_FLIGHTS[mechanism]
        assert carries("auth_info", said[-1])


# --- one message, cut or lengthened ---


@pytest.mark.requirement("defect.truncated-request")
@every_stage
def test_message_cut_at_any_byte_is_waited_for(mechanism, stage):
    """A TSRequest ends where it announces: what is cut is incomplete, and an error once the connection ends."""
    receiver, message = at_stage(mechanism, stage)
    for size in range(len(message)):
        result = receiver.context.step(message[:size])
        assert result.status is SecurityStatus.SEC_E_INCOMPLETE_MESSAGE
        assert 0 < result.missing <= len(message) - size
    with pytest.raises(CredSSPError):
        receiver.context.receive_eof()


@pytest.mark.requirement("defect.truncated-request")
@every_stage
def test_message_with_its_length_cut_to_fit(mechanism, stage):
    """Cut at every byte, but claiming to be whole: what is inside then reaches past the end."""
    message = at_stage(mechanism, stage)[1]
    content = message[der.element(message, 0, len(message), der.SEQUENCE, "test")[0] :]
    for size in range(0, len(content), 1 + len(content) // 60):
        ends = spoil(mechanism, stage, lambda flight, size=size: der.encode(der.SEQUENCE, content_of(flight)[:size]))
        assert not established(ends[1])


def content_of(message):
    return message[der.element(message, 0, len(message), der.SEQUENCE, "test")[0] :]


@pytest.mark.requirement("defect.lying-length")
@every_stage
@pytest.mark.parametrize("length", ["80", "8100", "85ffffffffff", "ff", "847fffffff", "84ffffffff", "83020001"])
def test_length_that_no_message_has(mechanism, stage, length):
    receiver, _ = at_stage(mechanism, stage)
    with pytest.raises(RemoteProtocolError):
        receiver.context.step(b"\x30" + bytes.fromhex(length) + bytes(64))


@pytest.mark.requirement("codec.size")
def test_message_past_the_policys_limit_is_refused_by_its_header_alone():
    for mechanism, stage in STAGES:
        receiver, _ = at_stage(mechanism, stage)
        with pytest.raises(LimitExceeded):
            receiver.context.step(b"\x30\x83" + (Policy().max_message - 4).to_bytes(3, "big"))


def at_stage(mechanism, stage):
    """The end that is to hear message number `stage`, and that message."""
    ends = bare_pair(mechanism)
    flight = ends[0].step(b"")
    for number in range(stage):
        flight = ends[1 - number % 2].step(flight)
    return ends[1 - stage % 2], flight


@pytest.mark.requirement("defect.malformed-der")
@every_stage
def test_any_byte_replaced_by_what_means_something_as_a_length(mechanism, stage):
    """A sample of bytes and values, coprime to each other, so that the set of tests covers every byte."""
    message = at_stage(mechanism, stage)[1]
    for number, _ in enumerate(replacements(message)):
        if number % 29 == stage:
            spoil(mechanism, stage, lambda flight, number=number: nth(replacements(flight), number))


def nth(iterator, number):
    return next(value for index, value in enumerate(iterator) if index == number)


@pytest.mark.requirement("defect.malformed-der", "defect.server-sizes")
@given(data=st.data())
def test_any_mutation_of_any_message(data):
    mechanism, stage = data.draw(st.sampled_from(STAGES))

    def mutate(flight):
        if not flight:
            return flight
        start = data.draw(st.integers(0, len(flight) - 1))
        stop = data.draw(st.integers(start, min(len(flight), start + 8)))
        return flight[:start] + data.draw(st.binary(max_size=12)) + flight[stop:]

    spoil(mechanism, stage, mutate)


@pytest.mark.requirement("defect.message-order")
@given(data=st.data())
def test_any_message_made_of_parts_of_others(data):
    """Well-formed messages of fields that were right somewhere, in any order, to a client and to a server without the
    password's owner behind them: nobody comes through.
    """
    mechanism = data.draw(st.sampled_from(MECHANISMS))
    ends = bare_pair(mechanism)
    victim = ends[data.draw(st.integers(0, 1))]
    heard = [victim.step(b"")] if victim is ends[0] else []
    pool = [TSRequest.decode(flight) for flight in recorded(mechanism)]
    with pytest.raises(CredSSPError):
        for _ in range(Policy().max_rounds + 2):
            pool += [TSRequest.decode(flight) for flight in heard if flight]
            part = {
                name: getattr(data.draw(st.sampled_from(pool), label=name), name)
                for name in ("nego_token", "auth_info", "pub_key_auth", "client_nonce")
                if data.draw(st.booleans())
            }
            heard = [victim.step(TSRequest(6, **part).encode())]
            assert not established(victim)
    assert victim.context.take_credentials() is None


@functools.cache
def recorded(mechanism):
    return tuple(flight for flight in flights(mechanism) if flight)


# --- the fields of a TSRequest ---


@pytest.mark.requirement("defect.absent-optional")
@every_stage
@pytest.mark.parametrize("field", ["nego_token", "pub_key_auth", "auth_info", "client_nonce"])
def test_optional_field_left_out(mechanism, stage, field):
    """CVE-2013-4118, CVE-2013-4119: what is absent is absent, and no pointer to nothing."""

    def leave_out(flight):
        return dataclasses.replace(TSRequest.decode(flight), **{field: None}).encode()

    needed = carries(field, at_stage(mechanism, stage)[1])
    ends = spoil(mechanism, stage, leave_out)
    assert established(ends[1]) == (not needed)


FIELDS_OF = {
    MechanismChoice.NTLM: ["nego_token"] * 3 + ["pub_key_auth", "auth_info"],
    MechanismChoice.NEGOTIATE: ["nego_token"] * 4 + ["pub_key_auth"] * 2 + ["auth_info"],
}
"""The first field of each message."""


@every_stage
@pytest.mark.parametrize("value", [b"", b"\0", b"\x60", b"\xa1\x80", b"NTLMSSP\0", bytes(70_000)], ids=len)
def test_field_replaced_by_what_it_cannot_be(mechanism, stage, value):
    field = FIELDS_OF[mechanism][stage]

    def replace(flight):
        assert carries(field, flight)
        return dataclasses.replace(TSRequest.decode(flight), **{field: value}).encode()

    assert not established(spoil(mechanism, stage, replace)[1])


# --- NTLM inside, raw and in SPNEGO ---

NTLM_FIELDS = {1: (16, 24), 2: (12, 40), 3: (12, 20, 28, 36, 44, 52)}
"""Where each message has (length, maximum, offset) of its fields."""


@pytest.mark.requirement("defect.ntlm-offsets", "defect.offset-wrap", "defect.ntlm-lengths-client")
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(("message", "at"), [(message, at) for message, ats in NTLM_FIELDS.items() for at in ats])
def test_ntlm_fields_with_any_length_and_offset(message, at, mechanism):
    """CVE-2018-8789 and its kin; the offsets wrap around 32 bits, with and without the length."""
    offsets = [0, 1, 63, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0, 0xFFFF_FFFF]
    for length in (0, 1, 0x7FFF, 0xFFFF):
        for offset in offsets:
            lie = length.to_bytes(2, "little") * 2 + offset.to_bytes(4, "little")
            ends, was = bare_pair(mechanism), []
            attack(*ends, functools.partial(patch_ntlm, message=message, at=at, value=lie, was=was))
            # What means nothing to the receiver (NEGOTIATE's names, the LM response) is still under the MIC.
            assert established(ends[1]) is (was == [lie])


def patch_ntlm(number, direction, flight, *, message, at, value, was):
    start = flight.find(b"NTLMSSP\0" + bytes([message, 0, 0, 0]))
    if start < 0:
        return flight
    field = slice(start + at, start + at + len(value))
    was.append(flight[field])
    return flight[: field.start] + value + flight[field.stop :]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("signature", [b"NTLMSSP", b"NTLMSSQ\0", b"ntlmssp\0", bytes(8)])
@pytest.mark.parametrize("message", [1, 2, 3])
def test_ntlm_signature_of_another_kind(message, signature, mechanism):
    ends = bare_pair(mechanism)

    def resign(number, direction, flight):
        return flight.replace(
            b"NTLMSSP\0" + bytes([message, 0, 0, 0]), signature.ljust(8, b"\1") + bytes([message, 0, 0, 0])
        )

    attack(*ends, resign)
    assert not established(ends[1])


# --- SPNEGO ---

NEGOEX_MESSAGE = b"NEGOEXTS" + bytes(4) + b"\xff" * 32 + b"\xff\xff\xff\xff" * 8


def offer(mech_types, token):
    return spnego.NegTokenInit.encode(spnego.encode_mech_list(mech_types), token)


@pytest.mark.requirement("defect.negoex")
def test_negoex_is_passed_over_unread():
    """CVE-2022-37958, CVE-2025-47981: its parser is reached before any logon; we have none."""
    target = bare_pair()[1]
    reply = TSRequest.decode(target.step(TSRequest(6, offer([spnego.NEGOEX, spnego.NTLM], NEGOEX_MESSAGE)).encode()))
    answer = spnego.NegTokenResp.decode(reply.nego_token)
    assert (answer.neg_state, answer.supported_mech) == (spnego.NegState.REQUEST_MIC, spnego.NTLM)


@pytest.mark.requirement("defect.spnego-without-mechanism")
@pytest.mark.parametrize(
    "token",
    [
        offer([spnego.NEGOEX], NEGOEX_MESSAGE),
        offer([spnego.NEGOEX], b""),
        offer([], b"NTLMSSP\0\1\0\0\0" + bytes(4)),
        offer([spnego.NTLM], b"NTLMSSP\0"),
        offer([spnego.NEGOEX] * 1000, NEGOEX_MESSAGE),
        bytes.fromhex("600806062b0601050502"),
        bytes.fromhex("600a06062b0601050502a000"),
        bytes.fromhex("600c06062b0601050502a0023000"),
        bytes.fromhex("601006062b0601050502a0063004a0023000"),
        b"\x60" + b"\x84\xff\xff\xff\xff",
        bytes.fromhex("a1043002a000"),
    ],
    ids=lambda token: token[:16].hex(),
)
def test_first_spnego_token_that_names_no_mechanism_of_ours(token):
    """CVE-2021-44758 read the chosen mechanism where none was chosen."""
    target = bare_pair()[1]
    with pytest.raises(CredSSPError):
        target.step(TSRequest(6, token).encode())


# --- credentials ---


def server_that_waits_for_credentials():
    """A server in AUTH_INFO, and the client's seal."""
    ends = bare_pair()
    flight = ends[0].step(b"")
    while not carries("pub_key_auth", flight):
        flight = ends[0].step(ends[1].step(flight))
    ends[1].step(flight)
    return ends[1], ends[0].context.handshake.mechanism


PLAIN = ts_credentials.encode(DELEGATED)


def lies_about_credentials():
    yield from (PLAIN[:size] for size in range(0, len(PLAIN), 2))
    yield from (value for number, value in enumerate(replacements(PLAIN)) if number % 11 == 0)
    yield PLAIN + b"\0"
    yield b"\x30\x84\x7f\xff\xff\xff" + PLAIN
    for cred_type in (0, 2, 3, 5, 6, 7, 127):
        yield PLAIN[:6] + bytes([cred_type]) + PLAIN[7:]


@pytest.mark.requirement("defect.credential-lengths")
def test_sealed_credentials_that_lie():
    """CVE-2025-47987: a client that has logged on is no friend either."""
    refused = 0
    for lie in lies_about_credentials():
        target, seal = server_that_waits_for_credentials()
        try:
            target.step(TSRequest(6, auth_info=seal.wrap(lie)).encode())
        except CredSSPError:
            refused += 1
            assert target.context.take_credentials() is None
        else:
            assert established(target)
    assert refused > 50


@pytest.mark.requirement("defect.credential-lengths")
def test_giant_credentials_are_taken_whole_up_to_the_limit_and_no_further():
    for size, fine in ((100_000, True), (140_000, False)):
        target, seal = server_that_waits_for_credentials()
        giant = ts_credentials.TSPasswordCreds(
            DELEGATED.domain_name, DELEGATED.user_name, ts_credentials.UnicodeString(bytes(size))
        )
        message = TSRequest(6, auth_info=seal.wrap(ts_credentials.encode(giant))).encode()
        if fine:
            target.step(message)
            assert target.context.take_credentials() == giant
        else:
            with pytest.raises(LimitExceeded):
                target.step(message)


# --- names of 64 KiB, towards the client ---


@pytest.mark.requirement("defect.long-names")
def test_challenge_with_a_domain_of_64_kib_is_refused_or_answered():
    """CVE-2025-68670 was a long domain; a client meets one in the challenge."""
    for size in (0xFFFE, 0xFFFF):
        victim, _ = bare_pair()
        victim.step(b"")
        name = b"a\0" * (size // 2) + b"a" * (size % 2)
        header = b"NTLMSSP\0\2\0\0\0" + len(name).to_bytes(2, "little") * 2 + (48).to_bytes(4, "little")
        challenge = header + (0x628A8235).to_bytes(4, "little") + bytes(16) + bytes(8) + name
        with pytest.raises(CredSSPError):
            victim.step(TSRequest(6, challenge).encode())
