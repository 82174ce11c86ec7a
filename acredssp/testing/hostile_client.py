"""A client that breaks what it likes, and the defects of servers that it looks for.

Every attack ends in the same way: the server must not prove its key to a client that has not proven itself. A server
may answer with errorCode, close the connection, or raise.
"""

import contextlib
import secrets
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from acredssp.core.binding import client_value
from acredssp.credentials import Password
from acredssp.errors import CredSSPError
from acredssp.mechanisms.ntlm import crypto
from acredssp.mechanisms.ntlm.messages import (
    AuthenticateMessage,
    AvId,
    ChallengeMessage,
    NTLMv2Response,
    decode_av_pairs,
    encode_av_pairs,
    with_mic,
)
from acredssp.names import upper
from acredssp.testing.endpoints import ServerEndpoint
from acredssp.testing.links import Channel, Crashed
from acredssp.tls import subject_public_key
from acredssp.wire import TSPasswordCreds, TSRequest, ts_credentials

__all__ = ["SERVER_DEFECTS", "HostileClient", "honest_logon"]

VERSION: Final = 6
NEGOTIATE: Final = bytes.fromhex("4e544c4d5353500001000000358208e2000000000000000000000000000000000a007c4f0000000f")
_MIC_FLAG: Final = b"\2\0\0\0"
_MOST_ROUNDS: Final = 200
_LONG: Final = 30_000


class HostileClient:
    """A client of one connection, over which a test has every control.

    Args:
        endpoint: The server.

    Attributes:
        channel: TLS with the server.
        public_key: The server's SubjectPublicKey.
        account: An account that the server lets in.
        nonce: The nonce of this connection.
        session_key: NTLM's ExportedSessionKey of this connection.
        challenge: The server's CHALLENGE_MESSAGE, once `negotiate` got it; empty before.
    """

    def __init__(self, endpoint: ServerEndpoint) -> None:
        self._link = endpoint.connect()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.channel = Channel(self._link, context, server_side=False)
        self.account = endpoint.account
        self.public_key = b""
        self.nonce = secrets.token_bytes(32)
        self.session_key = secrets.token_bytes(16)
        self.challenge = b""
        self._challenge: ChallengeMessage
        self._sealing = crypto.SealingHandle(self.session_key, from_initiator=True)
        self._opening = crypto.SealingHandle(self.session_key, from_initiator=False)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undone:
            undone.callback(self._link.close)
            self.channel.handshake()
            assert self.channel.peer_certificate is not None
            self.public_key = subject_public_key(self.channel.peer_certificate)
            undone.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.close()

    def send(self, data: bytes) -> None:
        """Send bytes inside TLS."""
        self.channel.send(data)

    def receive(self) -> TSRequest | None:
        """Return the server's answer; None where there is none that can be read."""
        try:
            return TSRequest.decode(self.channel.receive())
        except CredSSPError:
            return None

    def negotiate(self, version: int = VERSION) -> None:
        """Send NEGOTIATE, and take the CHALLENGE.

        Raises:
            Crashed: None comes.
        """
        self.send(TSRequest(version, nego_token=NEGOTIATE).encode())
        answer = self.receive()
        if answer is None or not answer.nego_token:
            raise Crashed("the server does not answer a usual NEGOTIATE with a CHALLENGE")
        self.challenge = answer.nego_token
        self._challenge = ChallengeMessage.decode(self.challenge)

    def authenticate(
        self,
        *,
        password: str | None = None,
        announce_mic: bool = True,
        mic: bool = True,
        av_pairs: bytes | None = None,
        flags: int = 0,
        **fields: bytes,
    ) -> bytes:
        """Return an AUTHENTICATE_MESSAGE, right but for what is asked for.

        Args:
            password: Another password than the account's.
            announce_mic: Whether MsvAvFlags announces a MIC.
            mic: Whether the MIC is there; zeros otherwise.
            av_pairs: The encoded AV pairs in place of the right ones.
            flags: Further NegotiateFlags.
            fields: Fields of the message by the names of `AuthenticateMessage`.
        """
        secret = self.account if password is None else Password(password, self.account.user, self.account.domain)
        user, domain = self.account.user.encode("utf-16-le"), self.account.domain.encode("utf-16-le")
        pairs = decode_av_pairs(self._challenge.target_info, "target info")
        if announce_mic:
            pairs[int(AvId.FLAGS)] = _MIC_FLAG
        stamp = pairs.get(int(AvId.TIMESTAMP), bytes(8))
        encoded = encode_av_pairs(pairs) if av_pairs is None else av_pairs
        temp = NTLMv2Response.encode_temp(stamp, secrets.token_bytes(8), encoded)
        key = crypto.hmac_md5(secret.nt_hash, upper(self.account.user).encode("utf-16-le") + domain)
        proof = crypto.nt_proof(key, self._challenge.server_challenge, temp)
        values: dict[str, Any] = {
            "domain": domain,
            "user": user,
            "workstation": b"",
            "lm_response": bytes(24),
            "nt_response": proof + temp,
            "encrypted_session_key": crypto.rc4(crypto.hmac_md5(key, proof), self.session_key),
        }
        message = AuthenticateMessage.encode(self._challenge.flags | flags, **(values | fields))
        if not mic:
            return message
        return with_mic(message, crypto.message_mic(self.session_key, NEGOTIATE, self.challenge, message))

    def key(self, *, public_key: bytes | None = None) -> bytes:
        """Return pubKeyAuth, bound to the server's key or to another one."""
        return self._sealing.wrap(client_value(VERSION, self.nonce, public_key or self.public_key))

    def last(self, token: bytes, **fields: Any) -> bytes:
        """Return the TSRequest with the last token and pubKeyAuth, with other fields in their place."""
        values: dict[str, Any] = {"pub_key_auth": None, "client_nonce": self.nonce} | fields
        if values["pub_key_auth"] is None:
            values["pub_key_auth"] = self.key()
        return TSRequest(values.pop("version", VERSION), nego_token=token, **values).encode()

    def is_let_in(self) -> bool:
        """Whether the server proves its key, which it does for a proven client alone.

        FreeRDP 3 sends a client's own value back to refuse it, so the proof has to be sealed by the session's key.
        """
        answer = self.receive()
        while answer is not None and answer.pub_key_auth is None and answer.nego_token and not answer.error_code:
            answer = self.receive()
        if answer is None or not answer.pub_key_auth or answer.error_code:
            return False
        try:
            self._opening.unwrap(answer.pub_key_auth)
        except CredSSPError:
            return False
        return True

    def delegate(self) -> None:
        """Send the account's password, as an honest client does at the end."""
        account = self.account
        plain = ts_credentials.encode(TSPasswordCreds.of(account.domain, account.user, account.password))
        self.send(TSRequest(VERSION, auth_info=self._sealing.wrap(plain)).encode())

    def expect_refusal(self, what: str) -> None:
        """Fail the test if the server lets this client in."""
        self.channel.hurry()
        if self.is_let_in():
            raise AssertionError(f"the server lets in a client with {what}")


def honest_logon(client: HostileClient) -> None:
    """Log on honestly: what every attack is measured against."""
    client.negotiate()
    client.send(client.last(client.authenticate()))
    if not client.is_let_in():
        raise AssertionError("the server does not let in a client with the right password: check the endpoint")
    client.delegate()


def _says(data: Callable[[], bytes], what: str) -> Callable[[HostileClient], None]:
    """Return an attack whose first message is `data`."""

    def attack(client: HostileClient) -> None:
        client.send(data())
        client.expect_refusal(what)

    return attack


def _authenticates(what: str, **changes: Any) -> Callable[[HostileClient], None]:
    """Return an attack with an AUTHENTICATE that is changed."""

    def attack(client: HostileClient) -> None:
        client.negotiate()
        client.send(client.last(client.authenticate(**changes)))
        client.expect_refusal(what)

    return attack


def _changes_token(what: str, change: Callable[[bytes], bytes]) -> Callable[[HostileClient], None]:
    def attack(client: HostileClient) -> None:
        client.negotiate()
        client.send(client.last(change(client.authenticate())))
        client.expect_refusal(what)

    return attack


def _ends(what: str, fields: Callable[[HostileClient], dict[str, Any]]) -> Callable[[HostileClient], None]:
    """Return an attack with the right password whose last message is changed."""

    def attack(client: HostileClient) -> None:
        client.negotiate()
        client.send(client.last(client.authenticate(), **fields(client)))
        client.expect_refusal(what)

    return attack


def _endless(client: HostileClient) -> None:
    client.channel.hurry()
    for _ in range(_MOST_ROUNDS):
        client.send(TSRequest(VERSION, nego_token=NEGOTIATE).encode())
        answer = client.receive()
        if answer is None or answer.error_code:
            return
    raise AssertionError(f"the server goes on after {_MOST_ROUNDS} rounds of NEGOTIATE")


def _without_nonce(client: HostileClient) -> dict[str, Any]:
    return {"client_nonce": None, "pub_key_auth": client.key()}


def _at(message: bytes, offset: int, data: bytes) -> bytes:
    return message[:offset] + data + message[offset + len(data) :]


_REQUEST: Final = TSRequest(VERSION, nego_token=NEGOTIATE).encode()

SERVER_DEFECTS: Final[Mapping[str, Callable[[HostileClient], None]]] = {
    "garbage": _says(lambda: b"\0garbage" * 10, "garbage in place of a TSRequest"),
    "indefinite-length": _says(lambda: b"\x30\x80" + _REQUEST[2:] + b"\0\0", "a TSRequest of indefinite length"),
    "no-token": _says(TSRequest(VERSION).encode, "a TSRequest with nothing in it"),
    "version-zero": _says(TSRequest(0, nego_token=NEGOTIATE).encode, "version 0"),
    "key-before-logon": _says(TSRequest(VERSION, pub_key_auth=bytes(48)).encode, "pubKeyAuth before any token"),
    "credentials-before-logon": _says(TSRequest(VERSION, auth_info=bytes(99)).encode, "authInfo before any token"),
    "error-code-of-a-client": _says(TSRequest(VERSION, error_code=0).encode, "an errorCode of its own"),
    "ntlm-of-another-type": _says(
        TSRequest(VERSION, nego_token=NEGOTIATE[:8] + b"\x09" + NEGOTIATE[9:]).encode, "an NTLM message of type 9"
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
    "wrong-mic": _changes_token("a wrong MIC", lambda token: _at(token, 72, bytes(16))),
    "truncated-ntlm": _changes_token("an AUTHENTICATE that is cut", lambda token: token[:70]),
    "offset-outside": _changes_token(
        "a field outside of its message", lambda token: _at(token, 24, b"\xff\xff\xff\x7f")
    ),
    "offset-wraps": _changes_token("an offset that wraps", lambda token: _at(token, 24, b"\xff\xff\xff\xff")),
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
"""Attacks on a server by name. Each returns if the server withstands it, and raises AssertionError otherwise."""
