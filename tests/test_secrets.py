"""Canaries: no form of a secret is in a log, a repr, an error or a traceback, however a handshake ends.

Every handshake here runs on asyncio, asyncio in debug mode with every callback logged as slow, and uvloop, with all
loggers at DEBUG. Its secrets are known: passwords, a PIN, a package's credentials, NT hashes, session keys (taken where
NTLM makes them). Then everything that a user can get hold of is walked through and looked at.
"""

import asyncio
import base64
import dataclasses
import logging
import os
import ssl

import pytest
from support import sspi
from support.build import COMPILED, attributes
from support.canaries import Canaries, forms, taps, texts_of, texts_of_error, texts_of_records
from support.endpoints import Deadlines, client_config, client_side, memory_pair, server_config, server_side
from support.engine import converse, pem
from support.logon import client, server, session_base_key

from acredssp import RDP, TLS, Deny, Keytab, NTHash, Password, Policy, TSPasswordCreds, tls_config
from acredssp.aio.report import HandshakeReport
from acredssp.aio.transport import SecureTransport
from acredssp.core.events import StepMechanism
from acredssp.credentials import Candidates, Nothing, Oracle, RemoteGuard, SmartCard
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.errors import AuthenticationError, CredSSPError, HandshakeTimeout, PeerClosed, PublicKeyMismatch
from acredssp.policy import MechanismChoice
from acredssp.trust import Trust
from acredssp.wire import (
    TSCspDataDetail,
    TSRemoteGuardCreds,
    TSRemoteGuardPackageCred,
    TSSmartCardCreds,
    ts_credentials,
)
from acredssp.wire.ts_credentials import UnicodeString
from acredssp.wire.ts_request import TSRequest

CANARY = "C4n4ry-Pässw0rd"
OTHER = "0th3r-C4n4ry"
WRONG = "Wr0ng-C4n4ry"
PIN = "7391-C4n4ry"
OTHER_KEY = b"S3ss10n-K3y-C4n4"
PACKAGE = b"P4ck4g3-C4n4ry\x00\xff"

ALICE = Password(CANARY, "alice", "CONTOSO")
SMART_CARD = TSSmartCardCreds(
    UnicodeString(PIN), TSCspDataDetail(1, UnicodeString("card")), UnicodeString("alice"), UnicodeString("CONTOSO")
)
REMOTE_GUARD = TSRemoteGuardCreds(
    TSRemoteGuardPackageCred(UnicodeString("Kerberos"), PACKAGE),
    (TSRemoteGuardPackageCred(UnicodeString("NTLM"), PACKAGE[::-1]),),
)

SECRETS = {
    "password": CANARY,
    "nt hash": ALICE.nt_hash,
    "other password": OTHER,
    "other nt hash": Password(OTHER).nt_hash,
    "wrong password": WRONG,
    "wrong nt hash": Password(WRONG).nt_hash,
    "pin": PIN,
    "key of an oracle": OTHER_KEY,
    "package": PACKAGE,
    "supplemental package": PACKAGE[::-1],
}


@pytest.fixture
def canaries():
    """With the keys that NTLM makes in the handshakes of the test, and its tokens."""
    with taps(Canaries(**SECRETS)) as found:
        yield found


# --- the handshakes ---


def oracle(password):
    return Oracle(lambda exchange: session_base_key(exchange, password))


def async_oracle(password):
    async def verify(exchange):
        await asyncio.sleep(0)
        return session_base_key(exchange, password)

    return Oracle(verify)


def lookup_of(answer):
    async def lookup(request):
        await asyncio.sleep(0)
        return answer

    return lookup


def raising(error):
    def hook(request):
        raise error

    return hook


class Case:
    """One handshake: how the client logs on, how the server lets in, whether that works out, and what is around it.

    `spoil` is given the client's exchange before it begins, `patience` is the server's for the whole handshake, and
    `limits` changes its policy.
    """

    def __init__(
        self, client=None, server=None, *, fine=True, carriage=TLS(), mechanism="ntlm",  # noqa: B008 - frozen
        spoil=lambda handshake: None, patience=30.0, **limits,
    ):  # fmt: skip
        self.client, self.server, self.fine, self.carriage = client or {}, server or {}, fine, carriage
        self.mechanism, self.spoil, self.patience, self.limits = MechanismChoice(mechanism), spoil, patience, limits

    def configs(self):
        policy = Policy(mechanism=self.mechanism)
        return (
            client_config(**{"policy": policy, "authenticate": ALICE} | self.client),
            server_config(dataclasses.replace(policy, **self.limits), **{"lookup": lookup_of(ALICE)} | self.server),
        )


class Malformed:
    """What a client delegates that knows no better: the password, and a byte too many behind it."""

    kind = "password"

    def fetch(self):
        return ts_credentials.encode(TSPasswordCreds.of("CONTOSO", "alice", CANARY)) + b"x"


def delegates(credentials):
    return lambda handshake: setattr(handshake, "_credentials", credentials)


def fails_to_fetch(error):
    class Failing(Malformed):
        def fetch(self):
            raise error("no ticket")

    return delegates(Failing())


def never(request):
    return asyncio.get_running_loop().create_future()


async def late_with_the_key(exchange):
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:  # as some libraries do
        return OTHER_KEY


def refused(*, hook_timeout=10.0, **server):
    return Case(server=server, fine=False, carriage=RDP(hybrid_ex=True), hook_timeout=hook_timeout)


NT_HASH = NTHash(ALICE.nt_hash, "alice", "CONTOSO")

CASES = {
    "password": Case(),
    "password under spnego": Case(mechanism="negotiate"),
    "wrong password under spnego": Case(
        server={"lookup": lookup_of(Password(WRONG))}, fine=False, mechanism="negotiate"
    ),
    "nt hash": Case({"authenticate": NT_HASH}, {"lookup": lookup_of(NTHash(ALICE.nt_hash))}),
    "candidates": Case(server={"lookup": lookup_of(Candidates([Password(OTHER), ALICE]))}),
    "oracle": Case(server={"lookup": lookup_of(oracle(ALICE))}),
    "oracle that waits": Case(server={"lookup": lookup_of(async_oracle(ALICE))}),
    "nothing delegated": Case({"delegate": Nothing()}),
    "another password delegated": Case({"delegate": Password(OTHER, "bob")}, {"admit": lambda info: True}),
    "smart card delegated": Case({"delegate": SMART_CARD}, {"admit": lambda info: True}),
    "remote guard delegated": Case({"delegate": REMOTE_GUARD}, {"authorize": lambda identity: True}),
    "smart card given as a value": Case({"delegate": SmartCard(PIN, "alice", card_name="card")}),
    "smart card refused": Case({"delegate": SmartCard(PIN)}, {"admit": lambda info: False}, fine=False),
    "untrusted certificate": Case({"trust": Trust.pinned("00" * 32)}, fine=False),
    "wrong password": refused(lookup=lookup_of(Password(WRONG))),
    "wrong nt hash": refused(lookup=lookup_of(NTHash(Password(WRONG).nt_hash))),
    "deny": refused(lookup=lookup_of(Deny())),
    "deny with the secret": refused(lookup=lookup_of(Deny(secret=ALICE))),
    "wrong candidates": refused(lookup=lookup_of(Candidates([Password(WRONG), Password(OTHER)]))),
    "oracle that denies": refused(lookup=lookup_of(Oracle(lambda exchange: Deny(secret=Password(WRONG))))),
    "oracle that gives the password": refused(lookup=lookup_of(Oracle(lambda exchange: CANARY))),
    "oracle of another password": refused(lookup=lookup_of(async_oracle(Password(WRONG)))),
    "oracle that raises": refused(lookup=lookup_of(Oracle(raising(LookupError(CANARY))))),
    "lookup that answers with text": refused(lookup=lookup_of(CANARY)),
    "lookup that answers with bytes": refused(lookup=lookup_of(ALICE.nt_hash)),
    "lookup that raises": refused(lookup=raising(LookupError(CANARY, ALICE.nt_hash))),
    "authorize that raises": refused(authorize=raising(PermissionError(CANARY))),
    "authorize that answers with text": refused(authorize=lookup_of(CANARY)),
    "lookup that never answers": refused(lookup=never, hook_timeout=0.02),
    "oracle that is late": refused(lookup=lookup_of(Oracle(late_with_the_key)), hook_timeout=0.02),
    "malformed credentials": Case(fine=False, spoil=delegates(Malformed())),
    "credentials that cannot be fetched": Case(fine=False, spoil=fails_to_fetch(ValueError)),
    "no credentials for us": Case(fine=False, spoil=fails_to_fetch(AuthenticationError)),
    "delegation refused": Case(
        {"delegation": DelegationPolicy(deny_fresh_credentials=SPNList.of("TERMSRV/*"))}, fine=False
    ),
    "version refused": Case({"policy": Policy(max_version=5)}, fine=False, min_version=6),
    "oracle of another key": refused(lookup=lookup_of(Oracle(lambda exchange: OTHER_KEY))),
    "oracle of another key that waits": refused(lookup=lookup_of(Oracle(lookup_of(OTHER_KEY)))),
    "authorize that refuses": refused(authorize=lookup_of(False)),
    "admit that refuses": refused(admit=lookup_of(Deny(secret=ALICE))),
    "admit that raises": refused(admit=raising(PermissionError(CANARY))),
}


async def outcome_of(side):
    try:
        return await side.establish()
    except CredSSPError as error:
        return error


@pytest.mark.requirement("defect.secrets-in-logs")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_nothing_of_a_secret_is_seen(case, canaries, caplog):
    await see_nothing(case, case.configs(), canaries, caplog)


@pytest.mark.requirement("defect.secrets-in-logs")
@pytest.mark.parametrize(
    ("role", "answer", "change", "who"),
    [
        ("authorize", True, ("_nonce", b"n" * 32), "the server has"),
        ("lookup", ALICE, ("public_key", b"the key of somebody between"), "the client"),
    ],
    ids=["wrong proof of the server's key", "wrong binding of the client's"],
)
async def test_nothing_is_seen_where_somebody_is_between(role, answer, change, who, canaries, caplog):
    """Somebody between changes the client's exchange, while the server asks a hook."""
    exchange = []

    def hook(request):
        setattr(exchange[0], *change)
        return answer

    mechanism = "ntlm" if role == "authorize" else "negotiate"  # under SPNEGO, the client's binding follows lookup
    case = Case(server={role: hook}, fine=False, spoil=exchange.append, mechanism=mechanism)
    errors = await see_nothing(case, case.configs(), canaries, caplog)
    assert next(str(error) for error in errors if isinstance(error, PublicKeyMismatch)).startswith(who)


@pytest.mark.requirement("defect.secrets-in-logs")
async def test_an_answer_that_is_late_for_the_handshake_is_not_kept(canaries, caplog, monkeypatch):
    deadlines = Deadlines(monkeypatch)

    async def verify(exchange):
        deadlines.come()
        return await late_with_the_key(exchange)

    case = Case(server={"lookup": lookup_of(Oracle(verify))}, fine=False, patience=Deadlines.FAR, hook_timeout=100.0)
    errors = await see_nothing(case, case.configs(), canaries, caplog)
    assert HandshakeTimeout in map(type, errors)


@pytest.mark.requirement("defect.secrets-in-logs")
async def test_an_answer_for_a_client_that_has_left_is_not_kept(canaries):
    asked = asyncio.Event()

    async def verify(exchange):
        asked.set()
        return await late_with_the_key(exchange)

    client, server = memory_pair()
    config = server_config(lookup=lookup_of(Oracle(verify)))
    tasks = [
        asyncio.create_task(outcome_of(side))
        for side in (client_side(client, client_config(authenticate=ALICE)), server_side(server, config))
    ]
    await asked.wait()
    client.abort()
    _, error = await asyncio.gather(*tasks)
    assert isinstance(error, PeerClosed)
    assert [(where, leak) for where, text in texts_of_error(error) for leak in canaries.leaks(text)] == []
    server.abort()


KERBEROS_CASES = {
    "password by kerberos": Case(mechanism="kerberos"),
    "password by raw kerberos": Case(mechanism="raw-kerberos"),
    "remote guard by kerberos": Case({"delegate": RemoteGuard()}, mechanism="kerberos"),
    "smart card by kerberos": Case({"delegate": SmartCard(PIN)}, mechanism="kerberos"),
    "wrong password by kerberos": Case(
        {"authenticate": Password(WRONG, "alice", "acredssp.test")}, fine=False, mechanism="kerberos"
    ),
    "ticket that does not fit": Case(fine=False, mechanism="kerberos"),
}


@pytest.mark.requirement("defect.secrets-in-logs")
@pytest.mark.parametrize("name", KERBEROS_CASES)
async def test_nothing_of_a_secret_of_kerberos_is_seen(name, kerberos, canaries, caplog):
    """The password, and every key: of the tickets in memory and of the context."""
    case, alice = KERBEROS_CASES[name], Password("Passw0rd!", "alice", "acredssp.test")
    canaries.secrets |= {"kerberos password": alice.password, "its nt hash": alice.nt_hash}
    keytab = kerberos.realm.wrong_keytab if name == "ticket that does not fit" else kerberos.keytab
    policy = Policy(mechanism=case.mechanism)
    client = client_config(policy, **{"authenticate": alice} | case.client)
    server = server_config(policy, lookup=None, keytab=Keytab(str(keytab)))
    await see_nothing(case, (client, server), canaries, caplog)
    assert any(each.startswith("context key") for each in canaries.secrets) is case.fine
    if case.fine:
        keys = [ticket.keyblock.data for ticket in client._choice.tickets.cache]
        assert len(keys) >= 2
        leaks = [form for key in keys for form in forms(key) if form in caplog.text]
        assert leaks == []


async def see_nothing(case, configs, canaries, caplog):
    """Let a handshake go as it goes, look at everything, and return its errors."""
    asyncio.get_running_loop().slow_callback_duration = 0  # in debug mode: every callback is logged
    caplog.set_level(logging.DEBUG)
    client, server = memory_pair()
    sides = (
        client_side(client, configs[0], case.carriage),
        server_side(server, configs[1], case.carriage, timeout=case.patience),
    )
    case.spoil(sides[0].carried.context.handshake)
    tasks = [asyncio.create_task(outcome_of(side)) for side in sides]
    outcomes = await asyncio.gather(*tasks)
    errors = [outcome for outcome in outcomes if isinstance(outcome, CredSSPError)]
    assert bool(errors) is not case.fine
    context, info = sides[1].carried.context, sides[1].carried.context.info
    report = HandshakeReport(("memory", 3389), errors[-1] if errors else None, info, info.principal)
    roots = [*configs, *sides, *outcomes, report, context.handshake, *tasks]
    roots += [attributes(sides[1].carried), attributes(context)]
    if case.fine:
        roots += [SecureTransport(server, context, info), context.take_credentials()]
    texts = [*texts_of(roots), *texts_of_records(caplog.records)]
    texts += [text for error in errors for text in texts_of_error(error)]
    if asyncio.get_running_loop().get_debug():
        assert any("Executing <" in text for _, text in texts), "the debug log was looked at"
    assert [(where, leak) for where, text in texts for leak in canaries.leaks(text)] == []
    assert len(texts) > 100
    client.abort()
    server.abort()
    return errors


@pytest.mark.requirement("defect.secrets-in-logs")
def test_events_and_what_waits_for_their_answers_show_nothing(canaries):
    """In the bare shape, where outputs are TSRequests, stopped at each event in turn."""
    ends = client(bare=True, authenticate=ALICE), server(bare=True, lookup=oracle(ALICE))
    handshake, answer, seen = ends[1].context.handshake, ends[1].answer, []
    handshake._authorize = handshake._admit = True
    ends[1].answer = lambda event: (seen.extend([event, handshake._waiting]), answer(event))[1]
    list(converse(*ends))
    assert len(seen) == 2 * len(["LookupCredential", "AskOracle", "Authorize", "Admit"])
    texts = texts_of([*seen, *ends[0].results, *ends[1].results])
    assert [(where, leak) for where, text in texts for leak in canaries.leaks(text)] == []


# --- the engine by hand, where tokens are in clear ---


def flipped(field):
    """Change the last byte of a field of the first TSRequest that has it, and say who is told so."""
    done = []

    def tamper(flight):
        request = TSRequest.decode(flight)
        value = getattr(request, field)
        if done or value is None or (field == "nego_token" and value[8] != 3):  # of NTLM's three, AUTHENTICATE
            return flight
        done.append(field)
        return dataclasses.replace(request, **{field: value[:-1] + bytes((value[-1] ^ 1,))}).encode()

    return tamper


def cut_short(flight):
    """A frame that is whole, around a message that is not."""
    return bytes((0x30, 0x03)) + flight[-3:]


BY_HAND = {
    "wrong password": ({}, {"lookup": Password(WRONG)}, None),
    "wrong password under spnego": ({"mechanism": "negotiate"}, {"lookup": Password(WRONG)}, None),
    "wrong candidates": ({}, {"lookup": Candidates([Password(WRONG), Password(OTHER)])}, None),
    "deny with the secret": ({}, {"lookup": Deny(secret=ALICE)}, None),
    "oracle of another key": ({}, {"lookup": Oracle(lambda exchange: OTHER_KEY)}, None),
    "text in place of a secret": ({}, {"lookup": CANARY}, None),
    "another channel": ({"key_type": "ec"}, {"lookup": ALICE}, None),
    "an altered logon": ({}, {"lookup": ALICE}, flipped("nego_token")),
    "an altered logon under spnego": ({"mechanism": "negotiate"}, {"lookup": ALICE}, flipped("nego_token")),
    "an altered proof": ({}, {"lookup": ALICE}, flipped("pub_key_auth")),
    "altered credentials": ({}, {"lookup": ALICE}, flipped("auth_info")),
    "no message": ({}, {"lookup": ALICE}, cut_short),
    "malformed credentials": ({"spoil": delegates(Malformed())}, {"lookup": ALICE}, None),
    "credentials that cannot be fetched": ({"spoil": fails_to_fetch(ValueError)}, {"lookup": ALICE}, None),
}


def bare_ends(asks, gives):
    policy = Policy(mechanism=asks.get("mechanism", "ntlm"))
    ours = client(policy, bare=True, authenticate=ALICE, key_type=asks.get("key_type", "rsa"))
    asks.get("spoil", lambda handshake: None)(ours.context.handshake)
    decide = ours.answer

    def answer(event):
        if not isinstance(event, StepMechanism):
            return decide(event)
        try:
            return event.run()
        except Exception as error:  # noqa: BLE001 - as an answerer does
            return error

    ours.answer = answer
    return ours, server(policy, bare=True, **gives)


def converse_tampered(ours, theirs, tamper, canaries):
    """Let both talk until one fails; the errors of that one, of its farewell at the other, and of a call too many."""
    errors, flight, turn = [], b"", 0
    while not errors and turn < 20:
        end = (ours, theirs)[turn % 2]
        turn += 1
        try:
            flight = end.step(flight)
        except CredSSPError as error:
            errors.append(error)
            flight = end.context.farewell
        if flight and not errors:
            canaries.note_tokens(flight)
            flight = tamper(flight) if tamper is not None else flight
            canaries.note_tokens(flight)
    for call in (lambda: end.context.step(b"0" + canaries.token), lambda: end.context.resume(None, OTHER_KEY)):
        with pytest.raises(CredSSPError) as again:
            call()
        errors.append(again.value)
    return errors


@pytest.mark.requirement("defect.secrets-in-logs")
@pytest.mark.parametrize("name", BY_HAND)
def test_no_secret_and_no_token_is_kept_by_the_error_of_a_context(name, canaries):
    asks, gives, tamper = BY_HAND[name]
    errors = converse_tampered(*bare_ends(asks, gives), tamper, canaries)
    texts = [text for error in errors for text in texts_of_error(error)]
    assert [(where, leak) for where, text in texts for leak in canaries.leaks(text)] == []
    assert any(where.startswith("self in ") for where, _ in texts) is not COMPILED, "the engine's frames were seen"


@pytest.mark.requirement("defect.secrets-in-logs")
def test_misuse_keeps_no_token_either(canaries):
    ours, theirs = bare_ends({}, {"lookup": ALICE})
    flight = theirs.step(ours.step(b""))
    flight = ours.step(flight)
    canaries.note_tokens(flight)
    theirs.context.step(flight)  # it waits for an account
    with pytest.raises(CredSSPError, match="waits for an answer") as caught:
        theirs.context.step(flight)
    texts = list(texts_of_error(caught.value))
    with pytest.raises(CredSSPError, match="does not wait") as caught:
        ours.context.resume(None, ALICE.nt_hash)
    texts += texts_of_error(caught.value)
    assert [(where, leak) for where, text in texts for leak in canaries.leaks(text)] == []


# --- the SSPI functions, where errors are kept on the handles ---

WITH_SSPI = {
    "wrong password": {"lookup": lookup_of(Password(WRONG))},
    "wrong candidates": {"lookup": lookup_of(Candidates([Password(WRONG), Password(OTHER)]))},
    "oracle of another key": {"lookup": lookup_of(Oracle(lambda exchange: OTHER_KEY))},
    "oracle of another key that waits": {"lookup": lookup_of(Oracle(lookup_of(OTHER_KEY)))},
    "text in place of a secret": {"lookup": lookup_of(CANARY)},
    "lookup that raises": {"lookup": raising(LookupError(CANARY, ALICE.nt_hash))},
    "authorize that refuses": {"authorize": lambda identity: False},
    "admit that refuses": {"admit": lambda info: Deny(secret=ALICE)},
}


@pytest.mark.requirement("defect.secrets-in-logs")
@pytest.mark.parametrize("package", ["CREDSSP", "TSSSP"])
@pytest.mark.parametrize("name", WITH_SSPI)
async def test_no_secret_and_no_token_is_kept_by_the_error_of_a_handle(name, package, canaries):
    server = server_config(**{"lookup": lookup_of(ALICE)} | WITH_SSPI[name])
    pair = await sspi.pair(client_config(authenticate=ALICE), server, package)
    flights = await sspi.talk(*pair)
    if package == "TSSSP":
        canaries.note_tokens(*(token for _, token in flights))
    errors = [end.error for end in pair if end.error is not None]
    assert errors
    texts = [text for error in errors for text in texts_of_error(error)]
    assert [(where, leak) for where, text in texts for leak in canaries.leaks(text)] == []
    assert any(where.startswith("state in ") for where, _ in texts), "the functions' frames were seen"


@pytest.mark.requirement("defect.secrets-in-logs")
async def test_an_altered_message_is_not_kept_by_the_error_of_a_handle(canaries):
    client, server = await sspi.pair(client_config(authenticate=ALICE), server_config(lookup=lookup_of(ALICE)), "TSSSP")
    flight, tamper = await client.call(), flipped("auth_info")
    while flight and not server.done:
        canaries.note_tokens(flight)
        flight = b"".join(await server.feed(tamper(flight)))
        flight = b"".join(await client.feed(flight))
    assert server.error is not None
    texts = list(texts_of_error(server.error))
    assert [(where, leak) for where, text in texts for leak in canaries.leaks(text)] == []


# --- private keys ---


@pytest.mark.parametrize("make", [tls_config.server_context_from_pem, tls_config.client_context_from_pem])
@pytest.mark.parametrize("memfd", [True, False])
@pytest.mark.parametrize("wrong", [pem("ec")[0], b"no certificate"])
def test_a_private_key_is_not_kept_by_the_error_about_it(make, memfd, wrong, monkeypatch):
    if not memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    key = pem("rsa")[1]
    with pytest.raises(ssl.SSLError) as caught:
        make(Policy(), wrong, key)
    texts = list(texts_of_error(caught.value))
    line = key.decode().splitlines()[1][:16]
    assert [where for where, text in texts if line in text] == []
    assert any(where.startswith("policy in ") for where, _ in texts), "the frames were seen"


# --- the canaries sing ---


@pytest.mark.parametrize("secret", [CANARY, PIN, PACKAGE, ALICE.nt_hash])
@pytest.mark.parametrize(
    "write",
    [
        lambda text, raw: text,
        lambda text, raw: repr(raw),
        lambda text, raw: raw.hex(),
        lambda text, raw: raw.hex().upper(),
        lambda text, raw: base64.b64encode(raw).decode(),
        lambda text, raw: str(list(raw)),
        lambda text, raw: repr(text),
    ],
)
@pytest.mark.parametrize("coding", ["utf-8", "utf-16-le"])
def test_a_leak_of_any_form_is_found(write, secret, coding, canaries):
    raw = secret if isinstance(secret, bytes) else secret.encode(coding)
    text = secret if isinstance(secret, str) else secret.decode("latin-1")
    if isinstance(secret, bytes) and write(text, raw) == repr(text):
        return  # bytes are no text
    assert canaries.leaks(f"before {write(text, raw)} behind")


def test_a_leak_is_found_wherever_it_is(caplog, canaries):
    @dataclasses.dataclass
    class Loud:
        secret: str

    Loud.__module__ = "acredssp.loud"
    assert any(canaries.leaks(text) for _, text in texts_of([{"a": [Loud(CANARY)]}]))
    caplog.set_level(logging.DEBUG)
    logging.getLogger("somebody").debug("key %r", ALICE.nt_hash)
    assert any(canaries.leaks(text) for _, text in texts_of_records(caplog.records))
    error = CredSSPError("no")
    error.__context__ = ValueError(OTHER)
    assert any(canaries.leaks(text) for _, text in texts_of_error(error))
