"""SPNEGO: it chooses one mechanism out of several, and protects the choice by a MIC (RFC 4178, [MS-SPNG]).

The mechanisms inside are given in order of preference. Their events (a lookup, a step that may block) are passed up,
and `resume` goes on where they stopped.

The list of mechanisms needs a mechListMIC in these cases (RFC 4178 section 5):

- The acceptor asked for one (request-mic), or the chosen mechanism is not the initiator's first. Then the MIC is
  compulsory: without it somebody between the peers could have removed the better mechanisms from the list.
- The mechanism itself asks for one, as NTLM does if its own messages carry a MIC ([MS-SPNG] note 8). As initiator we
  then always send one. An acceptor that completes without its own is tolerated: the first choice was taken, so nothing
  better can have been removed. An initiator that sends none is tolerated too, if its NTLM has no MIC. (aardwolf sends
  a mechListMIC without an NTLM MIC.)

A MIC that the peer sends is always verified, and answered, whether it was needed or not. A mechListMIC that only
repeats the responseToken does not count as a MIC: old acceptors send that.

The side that sends the mechanism's last token puts its MIC beside the token. The other side verifies it, and then
answers with its own. So an NTLM initiator is complete only with the acceptor's last token. CredSSP's pubKeyAuth waits
for that token (FreeRDP 3 servers fail if it does not), and an acceptor takes pubKeyAuth before or after it.
"""

import enum
import functools
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, Protocol

from acredssp.errors import (
    AuthenticationError,
    CredSSPError,
    LocalProtocolError,
    PolicyError,
    RemoteProtocolError,
)
from acredssp.mechanisms.base import Mechanism, Principal, Progress, Sealing
from acredssp.status import NTSTATUS, SecurityStatus
from acredssp.wire import spnego
from acredssp.wire.spnego import NegState, NegTokenInit, NegTokenResp, TokenKind

__all__ = ["DetectingAcceptor", "NegotiableMechanism", "NegotiateAcceptor", "NegotiateInitiator"]


class NegotiableMechanism(Mechanism, Protocol):
    """A mechanism that SPNEGO can choose."""

    @property
    def mech_types(self) -> tuple[spnego.OID, ...]:
        """The object identifiers of the mechanism, the one to offer first in front."""

    @property
    def needs_mech_list_mic(self) -> bool:
        """Whether the mechanism, now complete, wants a mechListMIC even where RFC 4178 does not demand one."""


class _State(enum.Enum):
    START = enum.auto()
    FIRST_REPLY = enum.auto()
    """Initiator: the acceptor has not chosen yet."""
    TOKENS = enum.auto()
    WAITING = enum.auto()
    """The chosen mechanism waits for the answer to an event."""
    DONE = enum.auto()
    FAILED = enum.auto()


# A token needs these members several times, and `_State.X` would look them up in the class by a detour.
_START, _FIRST_REPLY, _TOKENS, _WAITING, _DONE, _FAILED = _State
_COMPLETED: Final = NegState.ACCEPT_COMPLETED
_INCOMPLETE: Final = NegState.ACCEPT_INCOMPLETE
_REJECT: Final = NegState.REJECT
_REQUEST_MIC: Final = NegState.REQUEST_MIC
_NO_TOKEN: Final = NegTokenResp()

_encode_mech_list: Final[Callable[[tuple[spnego.OID, ...]], bytes]] = functools.lru_cache(8)(spnego.encode_mech_list)
"""Cached, since a configuration offers the same list every time."""


class _Negotiate:
    """What both sides share: the chosen mechanism, the MICs, and the stops for events."""

    __slots__ = (
        "_chosen",
        "_mech_list",
        "_mechanisms",
        "_mic_received",
        "_mic_required",
        "_mic_sent",
        "_pending",
        "_received",
        "_settled",
        "_state",
        "complete",
    )

    def __init__(self, mechanisms: Sequence[NegotiableMechanism]) -> None:
        if not mechanisms:
            raise ValueError("spnego: expected at least one mechanism to choose from, got none")
        self._mechanisms = tuple(mechanisms)
        self._chosen: NegotiableMechanism = self._mechanisms[0]
        self._settled = False
        """Whether `_chosen` is the choice of both sides."""
        self._mech_list = b""
        """mechTypes as it was on the wire."""
        self._mic_required = False
        """Whether RFC 4178 demands a mechListMIC, even if the mechanism does not."""
        self._mic_sent = False
        self._mic_received = False
        self._received = _NO_TOKEN
        """The peer's token that is being answered."""
        self._pending: Callable[[bytes], bytes] | None = None
        """Makes our token from the mechanism's, once the mechanism's event is answered."""
        self._state = _START
        self.complete = False

    @property
    def name(self) -> str:
        """`"negotiate"` until a mechanism is chosen, then its name."""
        return self._chosen.name if self._settled else "negotiate"

    @property
    def fallback(self) -> str:
        """Why the first mechanism is not used; empty while it is."""
        if self._chosen is self._mechanisms[0]:
            return ""
        return f"the server chose {self._chosen.name}"

    @property
    def principal(self) -> Principal | None:
        """The chosen mechanism's principal, once the choice itself is proven."""
        return self._chosen.principal if self.complete else None

    @property
    def authenticates_server(self) -> bool:
        """Whether the chosen mechanism has proven the server, once the choice itself is proven."""
        return self.complete and self._chosen.authenticates_server

    @property
    def ends(self) -> int | None:
        """When the chosen mechanism's ticket ends, once the choice itself is proven."""
        return self._chosen.ends if self.complete else None

    def step(self, token: bytes) -> Progress:
        """Take the peer's token; see `Mechanism.step`.

        Raises:
            RemoteProtocolError: The token is malformed or unexpected, or its MIC is wrong or missing.
            PolicyError: The peers have no mechanism in common.
            AuthenticationError: The peer sent reject.
        """
        state = self._state
        if state is _WAITING or state is _FAILED:
            raise LocalProtocolError(f"no spnego token is due: the context is {state.name.lower()}")
        self._state = _FAILED
        if state is _DONE:
            raise RemoteProtocolError("spnego is complete: expected no more tokens")
        return self._take(state, token)

    def resume(self, answer: object) -> Progress:
        """Give the chosen mechanism its answer, and make the token that waited for it.

        Raises:
            CredSSPError: `step` or the mechanism's own `resume` would raise it too.
        """
        pending = self._pending
        if pending is None:
            raise LocalProtocolError("the spnego context does not wait for an answer")
        self._pending, self._state = None, _FAILED
        return self._answer_with(self._chosen.resume(answer), pending)

    @property
    def sealing(self) -> Sealing:
        """The chosen mechanism's `sealing`, once the negotiation is complete."""
        if not self.complete:
            raise _not_established()
        return self._chosen.sealing

    def wrap(self, plaintext: bytes) -> bytes:
        """The chosen mechanism's `wrap`, once the negotiation is complete."""
        if not self.complete:
            raise _not_established()
        return self._chosen.wrap(plaintext)

    def unwrap(self, sealed: bytes) -> bytes:
        """The chosen mechanism's `unwrap`, once the negotiation is complete."""
        if not self.complete:
            raise _not_established()
        return self._chosen.unwrap(sealed)

    def get_mic(self, message: bytes) -> bytes:
        """The chosen mechanism's `get_mic`, once the negotiation is complete."""
        if not self.complete:
            raise _not_established()
        return self._chosen.get_mic(message)

    def verify_mic(self, message: bytes, mic: bytes) -> None:
        """The chosen mechanism's `verify_mic`, once the negotiation is complete."""
        if not self.complete:
            raise _not_established()
        self._chosen.verify_mic(message, mic)

    # This is no `abc.ABC`: from CPython 3.14 on, mypyc gives the objects of such a class a dictionary.
    def _take(self, state: _State, token: bytes) -> Progress:
        """Take the peer's token in a state that expects one."""
        raise NotImplementedError

    def _reply(self, output: bytes) -> bytes:
        """Make the answer to the peer's token from the mechanism's token."""
        raise NotImplementedError

    def _find(self, mech_type: spnego.OID) -> NegotiableMechanism | None:
        for mechanism in self._mechanisms:
            if mech_type in mechanism.mech_types:
                return mechanism
        return None

    def _answer_with(self, progress: Progress, reply: Callable[[bytes], bytes]) -> Progress:
        """Make the answer from the mechanism's token; or pass the mechanism's event up, and wait."""
        if isinstance(progress, bytes):
            return reply(progress)
        self._pending, self._state = reply, _WAITING
        return progress

    def _step_chosen(self, token: bytes | None) -> Progress:
        """Answer with the chosen mechanism's next token; without one if only the MIC is missing."""
        if not self._chosen.complete:
            if not token:
                raise RemoteProtocolError("spnego: expected a token of the mechanism, got none")
            return self._answer_with(self._chosen.step(token), self._reply)
        if token:
            raise RemoteProtocolError("spnego: expected only a mechListMIC, got one more token")
        return self._reply(b"")

    def _take_mic(self, mic: bytes) -> None:
        """Verify the mechListMIC in the peer's token, unless it only repeats the token."""
        if mic == self._received.response_token:
            return
        if not self._chosen.complete:
            raise RemoteProtocolError("spnego: got a mechListMIC before the mechanism was complete")
        self._chosen.verify_mic(self._mech_list, mic)
        self._mic_received = True

    def _make_mic(self) -> bytes:
        self._mic_sent = True
        return self._chosen.get_mic(self._mech_list)

    def _finish(self) -> None:
        self._state = _DONE
        self.complete = True


class NegotiateInitiator(_Negotiate):
    """A client's SPNEGO context.

    Call `step(b"")`, then `step` with each of the server's tokens until it is complete.

    Args:
        mechanisms: Initiators that have not started, most preferred first.
    """

    __slots__ = ("_optimistic",)

    def __init__(self, mechanisms: Sequence[NegotiableMechanism]) -> None:
        super().__init__(mechanisms)
        self._optimistic = b""
        """The first mechanism's first token."""

    def _take(self, state: _State, token: bytes) -> Progress:
        if state is _START:
            if token:
                raise RemoteProtocolError("spnego: expected no token before the client's first, got one")
            return self._answer_with(self._chosen.step(b""), self._offer)
        self._received = received = NegTokenResp.decode(token)
        if received.neg_state is _REJECT:
            raise AuthenticationError("spnego: the server rejected the logon, or all offered mechanisms")
        if state is _FIRST_REPLY:
            if self._choose(received):
                return self._answer_with(self._chosen.step(b""), self._reply)
            if self._mic_required and not received.response_token:
                # The acceptor chose another identifier of the first mechanism and dropped the token: send it again.
                return self._reply(self._optimistic)
        elif received.neg_state is _REQUEST_MIC:
            raise RemoteProtocolError("spnego: expected request-mic in the first reply only")
        return self._step_chosen(received.response_token)

    def _offer(self, mech_token: bytes) -> bytes:
        self._optimistic = mech_token
        offered: tuple[spnego.OID, ...] = ()
        for mechanism in self._mechanisms:
            offered += mechanism.mech_types
        self._mech_list = _encode_mech_list(offered)
        self._state = _FIRST_REPLY
        return NegTokenInit.encode(self._mech_list, mech_token)

    def _choose(self, first_reply: NegTokenResp) -> bool:
        """Settle on the mechanism of the acceptor's first reply; return whether that mechanism must be started.

        A missing supportedMech stands for the first mechanism, although RFC 4178 section 4.2.2 demands the field.
        """
        mech_type = first_reply.supported_mech or self._chosen.mech_types[0]
        chosen = self._find(mech_type)
        if chosen is None:
            raise RemoteProtocolError(f"spnego: the server chose {mech_type.hex()}, which was not offered")
        restart = chosen is not self._chosen
        request_mic = first_reply.neg_state is _REQUEST_MIC
        if restart and first_reply.response_token:
            raise RemoteProtocolError("spnego: expected no token of a mechanism that has not begun, got one")
        self._mic_required = mech_type != self._mechanisms[0].mech_types[0] or request_mic
        self._chosen = chosen
        self._settled = True
        return restart

    def _reply(self, output: bytes) -> bytes:
        mic = self._received.mech_list_mic
        if mic is not None:
            self._take_mic(mic)
        self._state = _TOKENS
        completed = self._received.neg_state is _COMPLETED
        if not self._chosen.complete:
            if completed:
                raise RemoteProtocolError("spnego: the server completed before the mechanism did")
            return spnego.encode_resp(_INCOMPLETE, None, output)
        return self._end(output) if completed else self._protect(output)

    def _end(self, output: bytes) -> bytes:
        """End the negotiation, since the acceptor needs no more tokens."""
        if output:
            raise RemoteProtocolError("spnego: the server completed, but the mechanism has a token for it")
        if self._mic_required and not self._mic_received:
            raise _mic_missing()
        self._finish()
        return b""

    def _protect(self, output: bytes) -> bytes:
        """Send a MIC where it is due: the mechanism is complete on our side, and SPNEGO is not on the other."""
        mic = None
        if not self._mic_sent:
            # Where the mechanism has no token, the acceptor can wait for nothing but a MIC.
            wanted = self._mic_required or self._mic_received or self._chosen.needs_mech_list_mic or not output
            mic = self._make_mic() if wanted else None
        elif not self._mic_received:
            raise RemoteProtocolError("spnego: the server neither completes nor sends its mechListMIC")
        if self._mic_received:
            self._finish()
        if not output and mic is None:
            return b""
        state = _COMPLETED if self.complete else _INCOMPLETE
        return spnego.encode_resp(state, None, output or None, mic)


class NegotiateAcceptor(_Negotiate):
    """A server's SPNEGO context.

    Call `step` with each of the client's tokens until it is complete. Mechanisms that this package lacks (NEGOEX,
    user-to-user Kerberos) are skipped. Where the client's first choice is one of them, its token is dropped, and the
    client is asked for a MIC.

    Args:
        mechanisms: Acceptors that have not started; the client's order decides.
    """

    __slots__ = ("_selected",)

    def __init__(self, mechanisms: Sequence[NegotiableMechanism]) -> None:
        super().__init__(mechanisms)
        self._selected: spnego.OID | None = None
        """supportedMech, until it is sent; None after that."""

    def _take(self, state: _State, token: bytes) -> Progress:
        if state is _START:
            return self._choose(NegTokenInit.decode(token))
        self._received = received = NegTokenResp.decode(token)
        if received.neg_state is _REJECT:
            raise RemoteProtocolError("spnego: expected a token, got reject from the client")
        return self._step_chosen(received.response_token)

    def _choose(self, init: NegTokenInit) -> Progress:
        for mech_type in init.mech_types:
            chosen = self._find(mech_type)
            if chosen is not None:
                break
        else:
            raise PolicyError(f"spnego: none of the {len(init.mech_types)} mechanisms offered is enabled")
        self._chosen, self._settled = chosen, True
        self._mech_list = init.mech_list
        self._selected = mech_type
        self._mic_required = mech_type != init.mech_types[0]
        if self._mic_required or not init.mech_token:
            self._state = _TOKENS
            state = _REQUEST_MIC if self._mic_required else _INCOMPLETE
            return spnego.encode_resp(state, self._take_selected())
        if init.mech_list_mic is not None:
            self._received = NegTokenResp(None, None, init.mech_token, init.mech_list_mic)
        return self._answer_with(self._chosen.step(init.mech_token), self._reply)

    def _take_selected(self) -> spnego.OID | None:
        """Return supportedMech, as the client spelled it, for the first reply; None for all later ones."""
        selected, self._selected = self._selected, None
        return selected

    def _reply(self, output: bytes) -> bytes:
        mic = self._received.mech_list_mic
        if mic is not None:
            self._take_mic(mic)
        if not self._chosen.complete:
            return self._incomplete(output)
        needed = self._mic_required or self._chosen.needs_mech_list_mic
        if needed and not self._mic_received:
            if not output:
                # The client sent the mechanism's last token, and must send its MIC beside that.
                raise _mic_missing()
            return self._incomplete(output, self._make_mic())
        self._finish()
        if self._mic_sent:
            return b""
        mic = self._make_mic() if self._mic_received else None
        return spnego.encode_resp(_COMPLETED, self._take_selected(), output or None, mic)

    def _incomplete(self, output: bytes, mic: bytes | None = None) -> bytes:
        self._state = _TOKENS
        return spnego.encode_resp(_INCOMPLETE, self._take_selected(), output, mic)


class DetectingAcceptor:
    """A server's context that takes SPNEGO or a bare mechanism. The client's first token decides which.

    Every error that a client causes has an `nt_status`: STATUS_LOGON_FAILURE, unless the mechanism gives another.

    Args:
        mechanisms: Acceptors that have not started.
    """

    __slots__ = ("_inner", "_mechanisms")

    def __init__(self, mechanisms: Sequence[NegotiableMechanism]) -> None:
        self._mechanisms = tuple(mechanisms)
        self._inner: Mechanism | None = None

    @property
    def name(self) -> str:
        """The mechanism's name; `"negotiate"` until it is known."""
        return self._inner.name if self._inner else "negotiate"

    @property
    def complete(self) -> bool:
        """Whether the context is established."""
        return self._inner is not None and self._inner.complete

    @property
    def fallback(self) -> str:
        """An empty text, since the client chooses the mechanism."""
        return ""

    @property
    def principal(self) -> Principal | None:
        """Who logged on."""
        return self._inner.principal if self._inner else None

    @property
    def authenticates_server(self) -> bool:
        """Whether the server is proven; see `Mechanism.authenticates_server`."""
        return self._inner is not None and self._inner.authenticates_server

    @property
    def ends(self) -> int | None:
        """When the ticket of the logon ends; see `Mechanism.ends`."""
        return self._inner.ends if self._inner else None

    def step(self, token: bytes) -> Progress:
        """Take the client's token; see `Mechanism.step`.

        Raises:
            RemoteProtocolError: The first token is of no known kind, or the mechanism's `step` raises it.
        """
        try:
            if self._inner is None:
                self._inner = self._detect(token)
            return self._inner.step(token)
        except CredSSPError as error:
            _give_status(error)
            raise

    def resume(self, answer: object) -> Progress:
        """Take the answer to an event; see `Mechanism.resume`."""
        try:
            return (self._inner or _refuse_early()).resume(answer)
        except CredSSPError as error:
            _give_status(error)
            raise

    @property
    def sealing(self) -> Sealing:
        """What seals and unseals; see `Mechanism.sealing`."""
        return (self._inner or _refuse_early()).sealing

    def wrap(self, plaintext: bytes) -> bytes:
        """Sign and seal; see `Mechanism.wrap`."""
        return (self._inner or _refuse_early()).wrap(plaintext)

    def unwrap(self, sealed: bytes) -> bytes:
        """Verify and unseal; see `Mechanism.unwrap`."""
        return (self._inner or _refuse_early()).unwrap(sealed)

    def get_mic(self, message: bytes) -> bytes:
        """Sign; see `Mechanism.get_mic`."""
        return (self._inner or _refuse_early()).get_mic(message)

    def verify_mic(self, message: bytes, mic: bytes) -> None:
        """Verify; see `Mechanism.verify_mic`."""
        (self._inner or _refuse_early()).verify_mic(message, mic)

    def _detect(self, token: bytes) -> Mechanism:
        kind = spnego.token_kind(token)
        if kind is TokenKind.SPNEGO_INIT:
            return NegotiateAcceptor(self._mechanisms)
        if kind is TokenKind.NTLM:
            mech_type = spnego.NTLM
        elif kind is TokenKind.KERBEROS:
            mech_type = spnego.KERBEROS
        else:
            raise RemoteProtocolError(f"expected a first token of ntlm, kerberos or spnego, got {kind.name.lower()}")
        for mechanism in self._mechanisms:
            if mech_type in mechanism.mech_types:
                return mechanism
        raise PolicyError(f"the client begins with {kind.name.lower()}, which this server has not enabled")


def _give_status(error: CredSSPError) -> None:
    if error.nt_status is None and not isinstance(error, LocalProtocolError):
        error.nt_status = NTSTATUS.STATUS_LOGON_FAILURE


def _refuse_early() -> NoReturn:
    raise LocalProtocolError("expected the client's first token before this call")


def _not_established() -> LocalProtocolError:
    return LocalProtocolError("the spnego context is not established")


def _mic_missing() -> RemoteProtocolError:
    return RemoteProtocolError(
        "spnego: expected a mechListMIC, got none", security_status=SecurityStatus.SEC_E_MESSAGE_ALTERED
    )
