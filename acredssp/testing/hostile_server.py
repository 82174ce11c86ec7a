"""A server that breaks what it likes, and the defects of clients that it looks for.

Every attack ends in the same way: a client must not send its password to a server that has not proven its key.
"""

import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

from acredssp.core.binding import server_value
from acredssp.errors import CredSSPError
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor, NTLMIdentity
from acredssp.policy import Policy
from acredssp.testing.endpoints import ClientEndpoint
from acredssp.testing.links import Channel, Crashed, Link
from acredssp.tls import self_signed, server_context_from_pem, subject_public_key
from acredssp.wire import TSRequest

__all__ = ["CLIENT_DEFECTS", "HostileServer", "honest_logon"]

VERSION: Final = 6
_MOST_ROUNDS: Final = 64
_SEALING: Final = 0x20000030
"""SIGN, SEAL and 128: the flags without which nothing is sealed."""


class HostileServer:
    """A server of one connection, over which a test has every control.

    Args:
        link: The connection with the client.
        endpoint: The client.
        certificate: A certificate and its key, in PEM; None for a new one.

    Attributes:
        channel: TLS with the client.
        public_key: This server's SubjectPublicKey.
        acceptor: NTLM of this connection.
        nonce: The client's nonce, once it has come.
        their_key: The client's pubKeyAuth, once it has come.
        has_password: Whether the client has sent authInfo.
    """

    def __init__(self, link: Link, endpoint: ClientEndpoint, certificate: tuple[bytes, bytes] | None = None) -> None:
        chain, key = certificate or self_signed(["localhost", "127.0.0.1"])
        context = server_context_from_pem(Policy(), chain, key)
        context.num_tickets = 1  # a client that takes turns waits for something behind its Finished
        self.channel = Channel(link, context, server_side=True)
        self.public_key = subject_public_key(ssl.PEM_cert_to_DER_cert(chain.decode()))
        self.acceptor = NTLMAcceptor(Policy(), NTLMIdentity("HOSTILE"))
        self.nonce: bytes | None = None
        self.their_key = b""
        self.has_password = False
        self._account = endpoint.account

    def send(self, data: bytes) -> None:
        """Send bytes inside TLS."""
        self.channel.send(data)

    def receive(self) -> TSRequest | None:
        """Return the client's next message, and notice what it holds; None where none comes."""
        try:
            request = TSRequest.decode(self.channel.receive())
        except CredSSPError:
            return None
        self.nonce = request.client_nonce or self.nonce
        self.their_key = request.pub_key_auth or self.their_key
        self.has_password = self.has_password or request.auth_info is not None
        return request

    def begin(self) -> bytes:
        """Make the TLS handshake, take NEGOTIATE, and return the right CHALLENGE.

        Raises:
            Crashed: The client sends no NTLM.
        """
        self.channel.handshake()
        request = self.receive()
        if request is None or not (request.nego_token or b"").startswith(b"NTLMSSP\0"):
            raise Crashed("the client does not begin with NTLM: configure it so")
        challenge = self.acceptor.step(request.nego_token or b"")
        assert isinstance(challenge, bytes)
        return challenge

    def answer(self, challenge: bytes, version: int = VERSION) -> None:
        """Send a CHALLENGE, take the AUTHENTICATE, and make the keys of the session."""
        self.send(TSRequest(version, nego_token=challenge).encode())
        request = self.receive()
        if request is not None and request.nego_token:
            self.acceptor.step(request.nego_token)
            self.acceptor.resume(self._account)
            if not self.their_key:
                self.receive()

    def proof(self, *, public_key: bytes | None = None, version: int = VERSION) -> bytes:
        """Return this server's pubKeyAuth, for its own key or for another one."""
        return self.acceptor.wrap(server_value(version, self.nonce, public_key or self.public_key))

    def expect_no_password(self, endpoint: ClientEndpoint, what: str) -> None:
        """Fail the test if the client sends its password, now or before."""
        self.channel.hurry()
        while self.receive() is not None:
            pass
        if self.has_password:
            raise AssertionError(f"the client sends its password to a server with {what}")
        if endpoint.succeeded():
            raise AssertionError(f"the client says that it is logged on to a server with {what}")


Attack = Callable[[HostileServer], str]


def honest_logon(server: HostileServer) -> str:
    """Let the client in honestly: what every attack is measured against. It returns an empty text."""
    server.answer(server.begin())
    server.send(TSRequest(VERSION, pub_key_auth=server.proof()).encode())
    server.receive()
    if not server.has_password:
        raise AssertionError("the client does not log on to an honest server: check the endpoint")
    return ""


def _challenges(what: str, change: Callable[[bytes], bytes]) -> Attack:
    def attack(server: HostileServer) -> str:
        server.send(TSRequest(VERSION, nego_token=change(server.begin())).encode())
        return what

    return attack


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
    challenge = server.begin()
    for _ in range(_MOST_ROUNDS):
        server.send(TSRequest(VERSION, nego_token=challenge).encode())
    return "tokens without an end"


def _at(message: bytes, offset: int, data: bytes) -> bytes:
    return message[:offset] + data + message[offset + len(data) :]


def _without_sealing(challenge: bytes) -> bytes:
    flags = int.from_bytes(challenge[20:24], "little") & ~_SEALING
    return _at(challenge, 20, flags.to_bytes(4, "little"))


CLIENT_DEFECTS: Final[Mapping[str, Attack]] = {
    "garbage": _first("garbage in place of a TSRequest", b"\0garbage" * 10),
    "indefinite-length": _first("a TSRequest of indefinite length", b"\x30\x80\xa0\x03\x02\x01\x06\0\0"),
    "no-token": _first("a TSRequest with nothing in it", TSRequest(VERSION).encode()),
    "version-zero": _first("version 0", TSRequest(0, nego_token=b"NTLMSSP\0").encode()),
    "key-before-logon": _first("pubKeyAuth before any token", TSRequest(VERSION, pub_key_auth=bytes(48)).encode()),
    "error-code": _first("an errorCode", TSRequest(VERSION, error_code=0xC000006D).encode()),
    "challenge-cut": _challenges("a CHALLENGE that is cut", lambda challenge: challenge[:40]),
    "challenge-offset-outside": _challenges(
        "a field outside of its message", lambda challenge: _at(challenge, 44, b"\xff\xff\xff\x7f")
    ),
    "challenge-pairs-without-end": _challenges(
        "AV pairs without an end", lambda challenge: challenge[:-4] + b"\x02\0\xff\xff"
    ),
    "challenge-without-sealing": _challenges("nothing to seal with", _without_sealing),
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
"""Attacks on a client by name. Each returns what the server had, and the client must not send its password."""
