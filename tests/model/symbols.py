"""Mechanisms whose seals are terms: a seal opens for nobody but the session that it was made for.

NTLM here is the package's own initiator and acceptor, with their messages, proofs, MICs and channel bindings. Only what
an established context seals is a term. Kerberos is a model: a ticket is a term that its service alone can open.
"""

import hashlib
from typing import NamedTuple

from acredssp.errors import LocalProtocolError, RemoteProtocolError
from acredssp.mechanisms.base import Principal
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor
from acredssp.mechanisms.ntlm.initiator import NTLMCredential, NTLMInitiator
from acredssp.status import SecurityStatus
from acredssp.wire.spnego import KERBEROS

NOW = 0x01D8A0B0C0D0E0F0
"""The time of everything, as a FILETIME."""


class Seal(NamedTuple):
    """What a seal is: who can open it, and what is in it."""

    session: bytes
    from_initiator: bool
    sequence: int
    is_mic: bool
    plaintext: bytes


SEALS: dict[bytes, Seal] = {}
"""Every seal that was made, by its bytes. It says nothing about who knows the bytes."""
TICKETS: dict[bytes, tuple[str, str, bytes]] = {}
"""User, service and session key of every ticket that was made."""


def seal(*fields):
    """Return the bytes that stand for a seal, which are the same each time."""
    term = Seal(*fields)
    made = b"<seal>" + hashlib.sha256(repr(term).encode()).digest()[:18]
    SEALS[made] = term
    return made


class Random:
    """A source of random bytes that gives the same ones each time, others for each name and size."""

    def __init__(self, name):
        self.name = name

    def __call__(self, size):
        return hashlib.shake_128(f"{self.name} {size}".encode()).digest(size)


class Handle:
    """One direction of an established context, in place of `SealingHandle`."""

    def __init__(self, session, *, from_initiator):
        self.session = session
        self.from_initiator = from_initiator
        self.sequence = 0
        self.sealed = False

    def wrap(self, plaintext):
        self.sealed = True
        return self._next(plaintext, is_mic=False)

    def get_mic(self, message):
        self._check_early()
        return self._next(message, is_mic=True)

    def unwrap(self, sealed):
        self.sealed = True
        return self._open(sealed, is_mic=False)

    def verify_mic(self, message, mic):
        self._check_early()
        if self._open(mic, is_mic=True) != message:
            raise _altered("signed by a mic for something else")

    def _next(self, plaintext, *, is_mic):
        made = seal(self.session, self.from_initiator, self.sequence, is_mic, plaintext)
        self.sequence += 1
        return made

    def _open(self, sealed, *, is_mic):
        term = SEALS.get(sealed)
        expected = (self.session, self.from_initiator, self.sequence, is_mic)
        if term is None or term[:4] != expected:
            raise _altered("no seal of this session, direction and number")
        self.sequence += 1
        return term.plaintext

    def _check_early(self):
        if self.sealed:
            raise LocalProtocolError("expected a mechListMIC before the first sealed message, got it after")


def _altered(message):
    return RemoteProtocolError(message, security_status=SecurityStatus.SEC_E_MESSAGE_ALTERED)


class _Terms:
    """Seals terms in place of bytes."""

    session = b""
    heard: tuple[bytes, ...] = ()
    said: tuple[bytes, ...] = ()
    """The tokens that it took and gave, for the properties to look at."""

    def step(self, token):
        said = super().step(token)
        self.heard += (token,)
        if isinstance(said, bytes):
            self.said += (said,)
        return said

    def _establish(self, session_key, *, initiator):
        self.session = session_key
        self._outgoing = Handle(session_key, from_initiator=initiator)
        self._incoming = Handle(session_key, from_initiator=not initiator)
        self.complete = True


class Initiator(_Terms, NTLMInitiator):
    """The package's NTLM initiator."""

    def __init__(self, name, secret, target, bindings=None):
        credential = secret if isinstance(secret, NTLMCredential) else NTLMCredential(secret, "PC")
        super().__init__(
            credential, target_name=target, channel_bindings=bindings, random=Random(name), now=lambda: NOW
        )


class Acceptor(_Terms, NTLMAcceptor):
    """The package's NTLM acceptor."""

    def __init__(self, name, policy, identity, bindings=None):
        super().__init__(policy, identity, channel_bindings=bindings, random=Random(name), now=lambda: NOW)


class _Ticketed(_Terms):
    """What both sides of the model of Kerberos share."""

    name = "kerberos"
    mech_types = (KERBEROS,)
    fallback = ""
    needs_mech_list_mic = False
    ends = None
    complete = False
    principal = None

    @property
    def sealing(self):
        return self._outgoing.wrap, self._incoming.unwrap

    def wrap(self, plaintext):
        return self._outgoing.wrap(plaintext)

    def unwrap(self, sealed):
        return self._incoming.unwrap(sealed)

    def get_mic(self, message):
        return self._outgoing.get_mic(message)

    def verify_mic(self, message, mic):
        self._incoming.verify_mic(message, mic)


class TicketInitiator(_Ticketed):
    """Logs on by a ticket for one service."""

    authenticates_server = True

    def __init__(self, name, user, service):
        self.session_of_ticket = Random(name)(16)
        self.user, self.service = user, service

    def step(self, token):
        if not token:
            ticket = b"<ticket>" + hashlib.sha256(self.session_of_ticket).digest()[:16]
            TICKETS[ticket] = (self.user, self.service, self.session_of_ticket)
            return ticket
        if token != reply_to(self.session_of_ticket):
            raise _altered("another reply than the service's")
        self._establish(self.session_of_ticket, initiator=True)
        return b""


class TicketAcceptor(_Ticketed):
    """Takes tickets for one service."""

    authenticates_server = False

    def __init__(self, service):
        self.service = service

    def step(self, token):
        user, service, session = TICKETS.get(token, ("", "", b""))
        if service != self.service:
            raise _altered("no ticket for this service")
        self.principal = Principal(user, "CONTOSO.TEST")
        self._establish(session, initiator=False)
        return reply_to(session)


def reply_to(session):
    """Return the service's reply, which nobody can make without the session key."""
    return b"<reply>" + hashlib.sha256(b"reply" + session).digest()[:16]


class ZeroKeys(NTLMCredential):
    """What somebody has who has no secret at all: proof and keys of zeros."""

    __slots__ = ()

    def hmac(self, message):
        return bytes(16)
