"""The sides of a world: each is a real handshake, frozen after every message that it took.

A `Node` is one side after some messages. Nodes are never changed: to take a message, a side is copied first. Two nodes
are the same if their handshakes hold the same and they have said the same.
"""

import dataclasses
import enum
import functools
import types
from collections.abc import Callable
from typing import Any

from model import symbols

from acredssp.core.handshake import Handshake
from acredssp.core.states import State
from acredssp.errors import CertificateError, CredSSPError, HandshakeTimeout, RemoteProtocolError
from acredssp.mechanisms.negotiate import DetectingAcceptor, NegotiateAcceptor, NegotiateInitiator
from acredssp.policy import Policy
from acredssp.wire import ts_credentials
from acredssp.wire.ts_request import TSRequest


class Service:
    """Another service of the server's machine. It takes logons by NTLM, and runs what a user has sealed.

    It has the methods of a `Handshake`, so that it can be a side.
    """

    def __init__(self, mechanism):
        self.mechanism = mechanism
        self.state = State.NEGO_TOKEN
        self.version = 0
        self.ran = b""

    def tls_established(self, _key):
        """It has no TLS."""

    def receive(self, message):
        if not self.mechanism.complete:
            return self.mechanism.step(message)
        plaintext = self.mechanism.unwrap(message)
        if b"run: " not in plaintext:
            raise RemoteProtocolError("expected a command")
        self.ran = plaintext
        self.state = State.ESTABLISHED
        return b""

    def resume(self, answer):
        return self.mechanism.resume(answer)

    def fail(self, _error):
        self.state = State.FAILED

    def farewell(self):
        return b""


_COPIED = (
    Service,
    Handshake,
    symbols._Terms,
    symbols.Handle,
    DetectingAcceptor,
    NegotiateAcceptor,
    NegotiateInitiator,
)


@functools.cache
def _changes(kind):
    """Whether objects of a type change from message to message. Everything else is shared by all copies."""
    return issubclass(kind, _COPIED)


@functools.cache
def _slots(kind):
    return tuple([name for each in kind.__mro__ for name in getattr(each, "__slots__", ())])


def _fields(value):
    """The attributes that an object has, in slots or not."""
    found = {name: getattr(value, name) for name in _slots(type(value)) if hasattr(value, name)}
    return found | getattr(value, "__dict__", {})


def _copy(value, copies):
    """Copy what changes from message to message."""
    kind = type(value)
    if kind is tuple:
        return tuple([_copy(each, copies) for each in value]) if any(_changes(type(each)) for each in value) else value
    if kind is types.MethodType:  # what seals, of the handle that changes
        return getattr(_copy(value.__self__, copies), value.__name__)
    if not _changes(kind):
        return value
    twin = copies.get(id(value))
    if twin is None:
        twin = copies[id(value)] = object.__new__(kind)
        for name, each in _fields(value).items():
            setattr(twin, name, _copy(each, copies) if type(each) not in _PLAIN else each)
    return twin


_PLAIN = {bytes, str, int, bool, type(None)}


def _frozen(value):
    """A value that two handshakes share if, and only if, they hold the same."""
    if type(value) in _PLAIN or isinstance(value, enum.Enum):
        return value
    if _changes(type(value)):
        return (type(value), *((name, _frozen(each)) for name, each in sorted(_fields(value).items())))
    if isinstance(value, tuple):
        return tuple(map(_frozen, value))
    if isinstance(value, ts_credentials.TSPasswordCreds):
        return ts_credentials.encode(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, Policy):
        return (type(value), *(_frozen(getattr(value, each.name)) for each in dataclasses.fields(value)))
    # What is shared by all copies is known by its id: policies, hooks, sources of randomness.
    return _frozen_method(value) if isinstance(value, types.MethodType) else id(value)


def _frozen_method(method):
    """What seals belongs to a handle. Any other method is of an object that is looked at anyway."""
    bound = method.__self__
    if isinstance(bound, symbols.Handle):
        return method.__name__, _frozen(bound)
    return method.__name__ if _changes(type(bound)) else (method.__name__, id(bound))


@dataclasses.dataclass(frozen=True)
class Party:
    """One side of a world, before its first message.

    Attributes:
        name: What drawings call it.
        make: Makes its handshake.
        key: The public key of its TLS connection: the server's own, and for a client the one that it was shown.
        answer: Answers the handshake's events.
        linked: The party at the other end of its TLS connection; empty if that is the attacker.
        floor: The lowest version that it may use.
        mechanisms: Those that it may use.
        ours: Whether the promises of this package are looked for at this side. A careless server is none of ours.
        user: Who logs on, at a client.
        plain: Whether it takes tokens and seals as they are, without CredSSP's messages around them.
        trusts: Whether a client takes the certificate of its connection for its server's.
    """

    name: str
    make: Callable[[], Any]
    key: bytes
    answer: Callable[[object], object] = lambda _: True
    linked: str = ""
    floor: int = 5
    mechanisms: frozenset[str] = frozenset({"ntlm"})
    ours: bool = True
    user: str = ""
    plain: bool = False
    trusts: bool = True


class Node:
    """A side after some messages."""

    __slots__ = ("error", "handshake", "number", "opened", "said", "taken")

    def __init__(self, handshake, said, taken, opened, error):
        self.handshake = handshake
        self.said = said
        """Everything that it has said."""
        self.taken = taken
        """How many messages it has taken."""
        self.opened = opened
        """The version in the first message that it took; 0 before that."""
        self.error = error
        self.number = 0

    @property
    def state(self):
        return self.handshake.state

    @property
    def ended(self):
        return self.state in {State.ESTABLISHED, State.FAILED}

    @property
    def session(self):
        """The session key of its mechanism; empty before that is complete."""
        mechanism = mechanism_of(self)
        return mechanism.session if mechanism is not None else b""

    def fingerprint(self):
        return (_frozen(self.handshake), self.said, self.taken)


def mechanism_of(node):
    """The innermost mechanism, which seals; None before an acceptor knows which one that is."""
    mechanism = node.handshake.mechanism
    while mechanism is not None and not isinstance(mechanism, symbols._Terms):
        fields = _fields(mechanism)
        mechanism = fields.get("_inner", fields.get("_chosen"))
    return mechanism


def first_node(party):
    """A side after TLS is up, if it trusts the certificate; a client has then said its first message."""
    handshake = party.make()
    if not party.trusts:
        handshake.fail(CertificateError("the certificate is not the server's"))
        return Node(handshake, (), 0, 0, handshake.error)
    handshake.tls_established(party.key)
    start = getattr(handshake, "start", None)
    return Node(handshake, (start(),) if start else (), 0, 0, None)


def deliver(party, node, message):
    """The side after one more message."""
    handshake = _copy(node.handshake, {})
    error = None
    try:
        said = handshake.receive(message)
        while not isinstance(said, bytes):
            said = handshake.resume(party.answer(said))
    except CredSSPError as caught:
        error = caught.with_traceback(None)  # which would keep a cycle alive
        handshake.fail(caught)
        said = handshake.farewell()
    opened = node.opened or version_of(message)
    return Node(handshake, (*node.said, said) if said else node.said, node.taken + 1, opened, error)


def at_the_deadline(node):
    """The side after its time is over."""
    handshake = _copy(node.handshake, {})
    handshake.fail(HandshakeTimeout("the handshake took too long"))
    return handshake


def version_of(message):
    try:
        return TSRequest.decode(message).version
    except CredSSPError:
        return 0
