"""The defects of clients that a hostile server looks for: `CLIENT_DEFECTS`, and which of them a mechanism can have."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from acredssp.core.binding import server_value
from acredssp.policy import MechanismChoice
from acredssp.testing.hostile_server import VERSION, HostileServer
from acredssp.testing.tokens import (
    ANOTHER_MECHANISM,
    AP_REP,
    KRB_ERROR,
    at,
    changed_cipher,
    check_mechanism,
    is_negotiated,
    of_another_type,
)
from acredssp.wire import TSRequest, spnego
from acredssp.wire.spnego import NegState

__all__ = ["CLIENT_DEFECTS", "NTLM_ONLY_CLIENT_DEFECTS", "Attack", "client_defects", "honest_logon"]

Attack: TypeAlias = Callable[[HostileServer], str]

_MOST_ROUNDS: Final = 64
_SEALING: Final = 0x20000030
"""SIGN, SEAL and 128: the flags without which nothing is sealed."""
_NO_MIC: Final = b"\4\4\1\xff\xff\xff\xff\xff" + bytes(20)
"""A MIC of Kerberos that nobody made."""


def honest_logon(server: HostileServer) -> str:
    """Let the client in honestly: what every attack is measured against. It returns an empty text."""
    server.answer(server.begin())
    server.send(TSRequest(VERSION, pub_key_auth=server.proof()).encode())
    server.receive()
    if not server.has_password:
        raise AssertionError("the client does not log on to an honest server: check the endpoint")
    return ""


# --- how an attack is made ---


def _answers(what: str, token: Callable[[HostileServer, bytes], bytes]) -> Attack:
    """Return an attack whose answer to the client's first token is `token`, made of the right one."""

    def attack(server: HostileServer) -> str:
        server.say(server.carried(token(server, server.begin())))
        return what

    return attack


def _changes(what: str, change: Callable[[bytes], bytes]) -> Attack:
    return _answers(what, lambda _, token: change(token))


def _negotiates(what: str, token: Callable[[HostileServer, bytes], bytes]) -> Attack:
    """Return an attack whose first token of SPNEGO is `token`. A client that takes it gets a right proof, too."""

    def attack(server: HostileServer) -> str:
        server.say(token(server, server.begin()))
        if server.receive() is not None and server.their_key:
            server.send(_key(server))
        return what

    return attack


def _choose_another(server: HostileServer) -> str:
    server.channel.handshake()
    server.receive()
    server.say(spnego.encode_resp(NegState.ACCEPT_INCOMPLETE, ANOTHER_MECHANISM))
    return "a mechanism that was not offered"


def _first(what: str, data: bytes) -> Attack:
    def attack(server: HostileServer) -> str:
        server.begin()
        server.send(data)
        return what

    return attack


def _proves(what: str, request: Callable[[HostileServer], bytes], version: int = VERSION) -> Attack:
    def attack(server: HostileServer) -> str:
        server.answer(server.begin(), version)
        server.send(request(server))
        return what

    return attack


def _key(server: HostileServer, **changes: Any) -> bytes:
    return TSRequest(changes.pop("version", VERSION), pub_key_auth=server.proof(**changes)).encode()


def _endless(server: HostileServer) -> str:
    token = server.carried(server.begin(), state=NegState.ACCEPT_INCOMPLETE)
    for _ in range(_MOST_ROUNDS):
        server.say(token)
    return "tokens without an end"


def _without_sealing(challenge: bytes) -> bytes:
    flags = int.from_bytes(challenge[20:24], "little") & ~_SEALING
    return at(challenge, 20, flags.to_bytes(4, "little"))


def _without_list_mic(server: HostileServer, token: bytes) -> bytes:
    """Choose another mechanism than the client's first one, as an attacker would, without the MIC that is due."""
    second = None if server.mic_due else server.offered[-1] if len(server.offered) > 1 else ANOTHER_MECHANISM
    return server.carried(token, state=NegState.ACCEPT_COMPLETED, chosen=second, mic=b"")


# --- the attacks ---

_OF_CREDSSP: Final[Mapping[str, Attack]] = {
    "garbage": _first("garbage in place of a TSRequest", b"\0garbage" * 10),
    "indefinite-length": _first("a TSRequest of indefinite length", b"\x30\x80\xa0\x03\x02\x01\x06\0\0"),
    "no-token": _first("a TSRequest with nothing in it", TSRequest(VERSION).encode()),
    "version-zero": _first("version 0", TSRequest(0, nego_token=b"NTLMSSP\0").encode()),
    "key-before-logon": _first("pubKeyAuth before any token", TSRequest(VERSION, pub_key_auth=bytes(48)).encode()),
    "error-code": _first("an errorCode", TSRequest(VERSION, error_code=0xC000006D).encode()),
    "unproven-key": _proves(
        "the proof of another key (CVE-2018-0886)", lambda server: _key(server, public_key=b"\x30\x03\x02\x01\x00")
    ),
    "reflected-key": _proves(
        "the client's own proof", lambda server: TSRequest(VERSION, pub_key_auth=server.their_key).encode()
    ),
    "proof-of-the-client": _proves(
        "the client's value under the server's seal",
        lambda server: TSRequest(VERSION, pub_key_auth=server.acceptor.wrap(b"\0" * 32)).encode(),
    ),
    "unsealed-key": _proves(
        "a proof that nobody sealed",
        lambda _: TSRequest(VERSION, pub_key_auth=b"\1\0\0\0" + bytes(44)).encode(),
    ),
    "short-signature": _proves("a proof of 8 bytes", lambda _: TSRequest(VERSION, pub_key_auth=bytes(8)).encode()),
    "absent-key": _proves("no proof", lambda _: TSRequest(VERSION).encode()),
    "version-change": _proves("another version than before", lambda server: _key(server, version=VERSION - 1)),
    "old-version": _proves(
        "version 2, in which anybody in between can make the proof (CVE-2018-0886)",
        lambda server: TSRequest(
            2, pub_key_auth=server.acceptor.wrap(server_value(2, None, server.public_key))
        ).encode(),
        version=2,
    ),
    "endless-tokens": _endless,
}

_OF_NTLM: Final[Mapping[str, Attack]] = {
    "challenge-cut": _changes("a CHALLENGE that is cut", lambda challenge: challenge[:40]),
    "challenge-offset-outside": _changes(
        "a field outside of its message", lambda challenge: at(challenge, 44, b"\xff\xff\xff\x7f")
    ),
    "challenge-pairs-without-end": _changes(
        "AV pairs without an end", lambda challenge: challenge[:-4] + b"\x02\0\xff\xff"
    ),
    "challenge-without-sealing": _changes("nothing to seal with", _without_sealing),
}

_OF_KERBEROS: Final[Mapping[str, Attack]] = {
    "changed-reply": _negotiates(
        "an AP-REP that the service's key did not make",
        lambda server, token: server.carried(changed_cipher(token, 0)),
    ),
    "reply-cut": _changes("an AP-REP that is cut", lambda token: token[: len(token) // 2]),
    "reply-length-outside": _changes(
        "an AP-REP that announces more bytes than it has", lambda token: at(token, 1, b"\x84")
    ),
    "reflected-token": _answers("the client's own AP-REQ", lambda server, _: server.client_token),
    "error-reply": _changes(
        "a KRB-ERROR in place of an AP-REP", lambda token: of_another_type(token, AP_REP, KRB_ERROR)
    ),
    "filler-outside": _proves(
        "a seal with more filler than it has bytes (CVE-2024-37371)",
        lambda server: TSRequest(VERSION, pub_key_auth=at(server.proof(), 4, b"\xff\xff")).encode(),
    ),
}

_OF_SPNEGO: Final[Mapping[str, Attack]] = {
    "no-reply": _negotiates("no AP-REP, but accept-completed", lambda server, _: server.carried(None, mic=b"")),
    "rejected": _negotiates(
        "reject beside its AP-REP", lambda server, token: server.carried(token, state=NegState.REJECT)
    ),
    "mechanism-not-offered": _choose_another,
    "absent-list-mic": _negotiates("another mechanism than the client's first, and no mechListMIC", _without_list_mic),
    "wrong-list-mic": _negotiates("a wrong mechListMIC", lambda server, token: server.carried(token, mic=_NO_MIC)),
}

CLIENT_DEFECTS: Final[Mapping[str, Attack]] = {**_OF_CREDSSP, **_OF_NTLM, **_OF_KERBEROS, **_OF_SPNEGO}
"""Attacks on a client by name. Each returns what the server had, and the client must not send its password.
`client_defects` returns those of one mechanism."""

_NO_FIELDS: Final = "an AP-REP is DER, without fields at offsets: reply-cut, reply-length-outside"

NTLM_ONLY_CLIENT_DEFECTS: Final[Mapping[str, str]] = {
    "challenge-cut": _NO_FIELDS,
    "challenge-offset-outside": _NO_FIELDS,
    "challenge-pairs-without-end": _NO_FIELDS,
    "challenge-without-sealing": "an AP-REP has no flags in clear that could switch sealing off: changed-reply",
}
"""Why an attack of `CLIENT_DEFECTS` cannot be made by Kerberos, and which attacks take its place."""


def client_defects(mechanism: MechanismChoice = MechanismChoice.NTLM) -> tuple[str, ...]:
    """Return the names of the attacks of `CLIENT_DEFECTS` that can be made by a mechanism.

    Args:
        mechanism: NTLM, KERBEROS (in SPNEGO) or RAW_KERBEROS.

    Raises:
        ValueError: `mechanism` leaves the choice open.
    """
    check_mechanism(mechanism)
    if not mechanism.kerberos:
        return (*_OF_CREDSSP, *_OF_NTLM)
    return (*_OF_CREDSSP, *_OF_KERBEROS, *(_OF_SPNEGO if is_negotiated(mechanism) else ()))
