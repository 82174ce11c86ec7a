"""The defects of servers that a hostile client looks for: `SERVER_DEFECTS`, and which of them a mechanism can have."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from acredssp.policy import MechanismChoice
from acredssp.testing.hostile_client import NEGOTIATE, VERSION, HostileClient
from acredssp.testing.tokens import (
    ANOTHER_MECHANISM,
    AP_REP,
    AP_REQ,
    KRB_ERROR,
    at,
    changed_cipher,
    check_mechanism,
    is_negotiated,
    of_another_type,
)
from acredssp.wire import TSRequest, spnego
from acredssp.wire.spnego import NegState, NegTokenInit

__all__ = ["NTLM_ONLY_SERVER_DEFECTS", "SERVER_DEFECTS", "Attack", "honest_logon", "server_defects"]

Attack: TypeAlias = Callable[[HostileClient], None]

_MOST_ROUNDS: Final = 200
_LONG: Final = 30_000
_OFFERED: Final = (ANOTHER_MECHANISM, spnego.KERBEROS)
"""A list of mechanisms. No server has the first; choosing the second needs a mechListMIC (RFC 4178 section 5)."""


def honest_logon(client: HostileClient) -> None:
    """Log on honestly: what every attack is measured against."""
    client.send(client.last(client.prove()))
    if not client.is_let_in():
        raise AssertionError("the server does not let in a client with the right password: check the endpoint")
    client.delegate()


def negotiated_logon(client: HostileClient) -> None:
    """Log on honestly by a list that needs a mechListMIC: what the attacks on that MIC are measured against."""
    _choose_second(client)
    client.send(client.last(client.list_mic(client.offered)))
    if not client.is_let_in():
        raise AssertionError("the server does not let in a client with a right mechListMIC")
    client.delegate()


# --- how an attack is made ---


def _says(data: Callable[[HostileClient], bytes], what: str) -> Attack:
    """Return an attack whose first message is `data`."""

    def attack(client: HostileClient) -> None:
        client.send(data(client))
        client.expect_refusal(what)

    return attack


def _says_this(request: TSRequest, what: str) -> Attack:
    return _says(lambda _: request.encode(), what)


def _authenticates(what: str, **changes: Any) -> Attack:
    """Return an attack with an AUTHENTICATE that is changed."""

    def attack(client: HostileClient) -> None:
        client.negotiate()
        client.send(client.last(client.authenticate(**changes)))
        client.expect_refusal(what)

    return attack


def _changes_token(what: str, change: Callable[[bytes], bytes]) -> Attack:
    def attack(client: HostileClient) -> None:
        client.negotiate()
        client.send(client.last(change(client.authenticate())))
        client.expect_refusal(what)

    return attack


def _goes_on(what: str, begin: Callable[[HostileClient], bool], token: Callable[[HostileClient], bytes]) -> Attack:
    """Return an attack on a server that takes what `begin` sends: the server gets pubKeyAuth, too, beside `token`."""

    def attack(client: HostileClient) -> None:
        client.channel.hurry()
        if begin(client):
            client.send(client.last(token(client)))
            client.expect_refusal(what)

    return attack


def _nothing(_: HostileClient) -> bytes:
    return b""


def _changes_ap_req(what: str, change: Callable[[bytes], bytes]) -> Attack:
    """Return an attack with an AP-REQ that is changed."""

    def begin(client: HostileClient) -> bool:
        client.present(change(client.ap_req()))
        return client.takes_reply()

    return _goes_on(what, begin, _nothing)


def _offers(what: str, token: Callable[[HostileClient], bytes]) -> Attack:
    """Return an attack whose first token is another one of SPNEGO."""

    def begin(client: HostileClient) -> bool:
        client.send(TSRequest(VERSION, nego_token=token(client)).encode())
        return client.takes_reply()

    return _goes_on(what, begin, _nothing)


def _chosen_second(what: str, token: Callable[[HostileClient], bytes]) -> Attack:
    """Return an attack whose first mechanism the server lacks, and whose last token is not the right mechListMIC."""
    return _goes_on(what, _choose_second, token)


def _choose_second(client: HostileClient) -> bool:
    """Offer Kerberos behind a mechanism that nobody has; return whether the server chooses Kerberos and takes it."""
    client.offered = _OFFERED
    client.present(bytes(16))
    answer = client.receive()
    if answer is None or answer.error_code or not answer.nego_token:
        return False
    token = spnego.encode_resp(NegState.ACCEPT_INCOMPLETE, None, client.ap_req())
    client.send(TSRequest(VERSION, nego_token=token).encode())
    return client.takes_reply()


def _ends(what: str, fields: Callable[[HostileClient], dict[str, Any]]) -> Attack:
    """Return an attack with the right password whose last message is changed."""

    def attack(client: HostileClient) -> None:
        client.send(client.last(client.prove(), **fields(client)))
        client.expect_refusal(what)

    return attack


def _endless(client: HostileClient) -> None:
    client.channel.hurry()
    token = client.first()
    for _ in range(_MOST_ROUNDS):
        client.send(TSRequest(VERSION, nego_token=token).encode())
        answer = client.receive()
        if answer is None or answer.error_code:
            return
    raise AssertionError(f"the server goes on after {_MOST_ROUNDS} rounds of the first token")


def _indefinite(client: HostileClient) -> bytes:
    request = TSRequest(VERSION, nego_token=client.first()).encode()
    content = 2 + (request[1] & 0x7F if request[1] > 0x7F else 0)
    return b"\x30\x80" + request[content:] + b"\0\0"


def _without_nonce(client: HostileClient) -> dict[str, Any]:
    return {"client_nonce": None, "pub_key_auth": client.key()}


def _with_filler(client: HostileClient) -> dict[str, Any]:
    return {"pub_key_auth": at(client.key(), 4, b"\xff\xff")}


def _signed_with(mic: bytes) -> bytes:
    return spnego.encode_resp(NegState.ACCEPT_INCOMPLETE, None, None, mic)


def _longer(token: bytes) -> bytes:
    """Return a token whose GSS header announces more bytes than there are."""
    assert token[1] == 0x82
    return at(token, 2, b"\xff\xff")


# --- the attacks ---

_OF_CREDSSP: Final[Mapping[str, Attack]] = {
    "garbage": _says(lambda _: b"\0garbage" * 10, "garbage in place of a TSRequest"),
    "indefinite-length": _says(_indefinite, "a TSRequest of indefinite length"),
    "no-token": _says_this(TSRequest(VERSION), "a TSRequest with nothing in it"),
    "version-zero": _says(lambda client: TSRequest(0, nego_token=client.first()).encode(), "version 0"),
    "key-before-logon": _says_this(TSRequest(VERSION, pub_key_auth=bytes(48)), "pubKeyAuth before any token"),
    "credentials-before-logon": _says_this(TSRequest(VERSION, auth_info=bytes(99)), "authInfo before any token"),
    "error-code-of-a-client": _says_this(TSRequest(VERSION, error_code=0), "an errorCode of its own"),
    "relayed": _ends(
        "the key of another tls connection (CVE-2018-0886)",
        lambda client: {"pub_key_auth": client.key(public_key=client.public_key[:-1] + b"\0")},
    ),
    "missing-nonce": _ends("no nonce", _without_nonce),
    "short-signature": _ends("a pubKeyAuth of 8 bytes", lambda _: {"pub_key_auth": b"\1\0\0\0\0\0\0\0"}),
    "wrong-signature": _ends("a pubKeyAuth that nobody sealed", lambda _: {"pub_key_auth": b"\1\0\0\0" + bytes(44)}),
    "version-change": _ends("another version than before", lambda _: {"version": 3}),
    "endless-rounds": _endless,
}

_OF_NTLM: Final[Mapping[str, Attack]] = {
    "ntlm-of-another-type": _says_this(
        TSRequest(VERSION, nego_token=NEGOTIATE[:8] + b"\x09" + NEGOTIATE[9:]), "an NTLM message of type 9"
    ),
    "wrong-password": _authenticates("a wrong password", password="not the password"),  # noqa: S106 - as it says
    "wrong-password-without-mic": _authenticates(
        "a wrong password and no MIC",
        password="not the password",  # noqa: S106 - as it says
        announce_mic=False,
        mic=False,
    ),
    "empty-proof": _authenticates("an empty proof", nt_response=b"", lm_response=b""),
    "short-proof": _authenticates("a proof of 8 bytes", nt_response=bytes(8)),
    "zero-proof": _authenticates("a proof of zeros", nt_response=bytes(48)),
    "anonymous": _authenticates("no name", user=b"", domain=b"", nt_response=b"", lm_response=b"\0", flags=0x800),
    "unknown-user": _authenticates("an unknown name", user="nobody at all".encode("utf-16-le")),
    "absent-mic": _authenticates("a MIC that is announced and absent", mic=False),
    "av-pairs-without-end": _authenticates("AV pairs without an end", av_pairs=b"\x02\0\xff\xff"),
    "name-of-odd-length": _authenticates("a name of an odd number of bytes", user=b"a\0l"),
    "long-name": _authenticates("a name of 60,000 bytes", user=b"a\0" * _LONG),
    "wrong-mic": _changes_token("a wrong MIC", lambda token: at(token, 72, bytes(16))),
    "truncated-ntlm": _changes_token("an AUTHENTICATE that is cut", lambda token: token[:70]),
    "offset-outside": _changes_token(
        "a field outside of its message", lambda token: at(token, 24, b"\xff\xff\xff\x7f")
    ),
    "offset-wraps": _changes_token("an offset that wraps", lambda token: at(token, 24, b"\xff\xff\xff\xff")),
}

_OF_KERBEROS: Final[Mapping[str, Attack]] = {
    "forged-ticket": _changes_ap_req("a ticket that no KDC sealed", lambda token: changed_cipher(token, 0)),
    "changed-authenticator": _changes_ap_req(
        "an authenticator that the ticket's owner did not seal", lambda token: changed_cipher(token, 1)
    ),
    "truncated-ap-req": _changes_ap_req("an AP-REQ that is cut", lambda token: token[: len(token) // 2]),
    "length-outside": _changes_ap_req("a token that announces more bytes than it has", _longer),
    "ap-rep-of-a-client": _changes_ap_req(
        "an AP-REP in place of an AP-REQ", lambda token: of_another_type(token, AP_REQ, AP_REP)
    ),
    "krb-error-of-a-client": _changes_ap_req(
        "a KRB-ERROR in place of an AP-REQ", lambda token: of_another_type(token, AP_REQ, KRB_ERROR)
    ),
    "filler-outside": _ends("a seal with more filler than it has bytes (CVE-2024-37371)", _with_filler),
}

_OF_SPNEGO: Final[Mapping[str, Attack]] = {
    "absent-list-mic": _chosen_second("a list of mechanisms that anybody may have changed: no mechListMIC", _nothing),
    "wrong-list-mic": _chosen_second(
        "a wrong mechListMIC", lambda _: _signed_with(b"\4\4\0\xff\xff\xff\xff\xff" + bytes(20))
    ),
    "list-mic-of-another-list": _chosen_second(
        "the mechListMIC of another list", lambda client: client.list_mic((spnego.KERBEROS,))
    ),
    "no-mechanism": _offers(
        "an empty list of mechanisms", lambda client: NegTokenInit.encode(spnego.encode_mech_list(()), client.ap_req())
    ),
    "token-of-another-mechanism": _offers(
        "a token of ntlm under the name of kerberos",
        lambda _: NegTokenInit.encode(spnego.encode_mech_list((spnego.KERBEROS,)), NEGOTIATE),
    ),
}

SERVER_DEFECTS: Final[Mapping[str, Attack]] = {**_OF_CREDSSP, **_OF_NTLM, **_OF_KERBEROS, **_OF_SPNEGO}
"""Attacks on a server by name. Each returns if the server withstands it, and raises AssertionError otherwise.
`server_defects` returns those of one mechanism."""

_TO_THE_KDC: Final = (
    "a client proves its password to the KDC, and never to the server: forged-ticket, changed-authenticator"
)
_IN_THE_TICKET: Final = "the user's name is in the ticket, which the KDC seals: forged-ticket"
_NO_MIC: Final = (
    "an AP-REQ has no MIC over an exchange, and the authenticator seals its checksum: changed-authenticator"
)
_NO_FIELDS: Final = "an AP-REQ is DER, without fields at offsets: truncated-ap-req, length-outside"

NTLM_ONLY_SERVER_DEFECTS: Final[Mapping[str, str]] = {
    "ntlm-of-another-type": "a token of Kerberos has types of its own: ap-rep-of-a-client, krb-error-of-a-client",
    **dict.fromkeys(
        ("wrong-password", "wrong-password-without-mic", "empty-proof", "short-proof", "zero-proof"), _TO_THE_KDC
    ),
    **dict.fromkeys(("anonymous", "unknown-user", "name-of-odd-length", "long-name"), _IN_THE_TICKET),
    **dict.fromkeys(("absent-mic", "wrong-mic"), _NO_MIC),
    **dict.fromkeys(("av-pairs-without-end", "truncated-ntlm", "offset-outside", "offset-wraps"), _NO_FIELDS),
}
"""Why an attack of `SERVER_DEFECTS` cannot be made by Kerberos, and which attacks take its place."""


def server_defects(mechanism: MechanismChoice = MechanismChoice.NTLM) -> tuple[str, ...]:
    """Return the names of the attacks of `SERVER_DEFECTS` that can be made by a mechanism.

    Args:
        mechanism: NTLM, KERBEROS (in SPNEGO) or RAW_KERBEROS.

    Raises:
        ValueError: `mechanism` leaves the choice open.
    """
    check_mechanism(mechanism)
    if not mechanism.kerberos:
        return (*_OF_CREDSSP, *_OF_NTLM)
    return (*_OF_CREDSSP, *_OF_KERBEROS, *(_OF_SPNEGO if is_negotiated(mechanism) else ()))
