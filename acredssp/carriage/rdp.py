"""The RDP carriage: X.224 negotiation in clear, TLS, CredSSP, early user authorization ([MS-RDPBCGR] 5.4.2.1).

    NEGOTIATION       Connection Request and Connection Confirm choose HYBRID or HYBRID_EX; a preconnection PDU may
                      come before the request
    ROUTING           a server with a `route` hook asks the hook between the two
    CREDSSP           a `SecurityContext` with TLS inside runs
    EARLY_USER_AUTH   with HYBRID_EX only: the server sends its four bytes after the credentials came
    DONE              RDP itself follows, inside the same TLS

No bytes may follow the X.224 PDU before TLS begins: such bytes came in clear, before the peer could know our answer,
and would later be taken for protected ones.
"""

import dataclasses
import enum
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Final, NoReturn, assert_never

from acredssp.arguments import expect, expect_callable
from acredssp.carriage.base import NewContext, PassedOn
from acredssp.carriage.routes import Passthrough, RDPRoute, RouteHook
from acredssp.config import ServerConfig
from acredssp.core.context import MOST_RECORDS_A_CALL, SecurityContext, other_event
from acredssp.core.events import Admit, Route
from acredssp.core.results import Buffer, StepResult
from acredssp.core.server import ServerHandshake
from acredssp.credentials import DelegatedKind
from acredssp.errors import (
    AccessDenied,
    CredSSPError,
    LocalProtocolError,
    NegotiationFailure,
    PeerClosed,
    RemoteProtocolError,
)
from acredssp.mechanisms.base import Answered, Question
from acredssp.status import NTSTATUS, SecurityStatus, Stage
from acredssp.values import copier
from acredssp.wire import early_auth, first_bytes, preconnection, tls_record, x224
from acredssp.wire.early_auth import AuthorizationResult
from acredssp.wire.first_bytes import OTHER_SIDE_TLS
from acredssp.wire.framing import FrameSize
from acredssp.wire.preconnection import PreconnectionPDU
from acredssp.wire.x224 import (
    ConnectionConfirm,
    ConnectionRequest,
    FailureCode,
    Protocols,
    RequestFlags,
    ResponseFlags,
)

__all__ = [
    "RDP",
    "RDPAcceptor",
    "RDPInitiator",
    "RDPState",
    "judge_early_authorization",
]

_MAX_COOKIE: Final = 9
"""The most characters of the user name that mstsc puts into the cookie."""

_CREDSSP: Final = Protocols.HYBRID | Protocols.HYBRID_EX
_OFFERED: Final = Protocols.SSL | Protocols.HYBRID
_ALL_OFFERED: Final = _OFFERED | Protocols.HYBRID_EX
_NO_FLAGS: Final = RequestFlags(0)
_MODES: Final[Mapping[DelegatedKind | None, RequestFlags]] = {
    DelegatedKind.NOTHING: RequestFlags.RESTRICTED_ADMIN_MODE_REQUIRED,
    DelegatedKind.REMOTE_GUARD: RequestFlags.REDIRECTED_AUTHENTICATION_MODE_REQUIRED,
}
"""The flag by which a client that delegates no password asks for a mode of logon, by what it delegates."""

_NLA_ON_SERVER: Final = "enable network level authentication on the server"
_NLA_ON_CLIENT: Final = "enable network level authentication on the client"
_HINTS: Final = {
    FailureCode.SSL_NOT_ALLOWED_BY_SERVER: "a server with tls switched off says so, and a gateway without a route for "
    "this connection: check the cookie, the routing token and the preconnection blob, or ask its administrator",
    FailureCode.SSL_CERT_NOT_ON_SERVER: "the server has no certificate for tls: tell its administrator",
    FailureCode.INCONSISTENT_FLAGS: "the server refuses the requested mode: check that it allows restricted admin or "
    "remote credential guard, whichever is used",
    FailureCode.SSL_WITH_USER_AUTH_REQUIRED_BY_SERVER: "the server demands tls with a client certificate in place of "
    "credssp, which this client cannot do: connect to another server",
}
"""The hints for failures that network level authentication does not solve."""


class RDPState(enum.Enum):
    """The states of an RDP handshake.

    Attributes:
        NEGOTIATION: The two sides choose HYBRID or HYBRID_EX in clear text.
        ROUTING: Server: the `route` hook is asked.
        CREDSSP: The `SecurityContext` with TLS inside runs.
        EARLY_USER_AUTH: HYBRID_EX: the server's verdict on the user is due.
        DONE: RDP itself follows, inside the same TLS.
        FAILED: Every later call raises the same error.
    """

    NEGOTIATION = enum.auto()
    ROUTING = enum.auto()
    CREDSSP = enum.auto()
    EARLY_USER_AUTH = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RDP:
    """The carriage of RDP; all connections of a configuration share one.

    Attributes:
        hybrid_ex: Whether a client offers the early user authorization result, and whether a server selects it for a
            client that offers it. It is off by default, since FreeRDP 2 clients offer it and then give up.
        cookie: Client: the name in the `mstshash` cookie, cut to 9 characters as mstsc does; empty for no cookie.
        routing_token: Client: the text by which a load balancer or a connection broker routes the connection, in place
            of the cookie: `tsv://MS Terminal Services Plugin.1.COLLECTION` or `Cookie: msts=...`, the `loadbalanceinfo`
            of an .rdp file. Empty for none.
        correlation_id: Client: 16 bytes that name the connection in the logs of both sides; None for none. The first
            byte must not be 00 or F4, and no byte may be 0D. `dataclasses.replace()` makes a carriage with another id
            for each connection.
        request_flags: Client: the flags to send besides the mode that the delegation needs, which is always sent.
        request: Client, in a gateway: the Connection Request of the gateway's own client. The target gets its whole
            cookie or routing token, correlation id and flags; only `requested_protocols` is the gateway's own. It takes
            the place of `cookie`, `routing_token`, `correlation_id` and `request_flags`. None makes a request of these.
        preconnection: Client: a preconnection PDU, with an id and a blob that tell the listener the destination of the
            connection. It is sent before the Connection Request ([MS-RDPEPS]; FreeRDP's `/pcid` and `/pcb`). A server
            that does not know it ends the connection. None for none.
        allow_preconnection: Server: whether a client may send a preconnection PDU. `route` and
            `get_extra_info("rdp_preconnection")` have it.
        response_flags: Server: the abilities of the RDP server behind it. Set REDIRECTED_AUTHENTICATION_MODE_SUPPORTED
            only for a server that speaks [MS-RDPEAR].
        route: Server: a hook that chooses the configuration of each connection by its Connection Request; None for the
            server's own configuration.
    """

    hybrid_ex: bool = False
    cookie: str = ""
    routing_token: str = ""
    correlation_id: bytes | None = None
    request_flags: RequestFlags = _NO_FLAGS
    request: ConnectionRequest | None = None
    preconnection: PreconnectionPDU | None = None
    allow_preconnection: bool = False
    response_flags: ResponseFlags = (
        ResponseFlags.EXTENDED_CLIENT_DATA_SUPPORTED | ResponseFlags.RESTRICTED_ADMIN_MODE_SUPPORTED
    )
    route: RouteHook | None = None

    def __post_init__(self) -> None:
        expect("hybrid_ex", self.hybrid_ex, bool)
        expect("cookie", self.cookie, str)
        expect("routing_token", self.routing_token, str)
        expect("correlation_id", self.correlation_id, bytes, None)
        expect("request_flags", self.request_flags, RequestFlags)
        expect("response_flags", self.response_flags, ResponseFlags)
        expect("request", self.request, ConnectionRequest, None)
        expect("preconnection", self.preconnection, PreconnectionPDU, None)
        expect("allow_preconnection", self.allow_preconnection, bool)
        expect_callable("route", self.route)
        self._check_beside_request()
        if self.cookie and self.routing_token:
            raise ValueError("cookie and routing_token: expected one of them, got both")
        try:
            self.new_request(self.request_flags).encode()
            _encoded(self.preconnection)
        except LocalProtocolError as error:
            raise ValueError(error.message) from None

    def _check_beside_request(self) -> None:
        """Refuse a request if the carriage also has an attribute that the request replaces."""
        if self.request is None or _beside_request(self) == _NOTHING_BESIDE:
            return
        names = _BESIDE_REQUEST
        first = next(name for name, none in zip(names, _NOTHING_BESIDE, strict=True) if getattr(self, name) != none)
        raise ValueError(f"request and {first}: expected one of them, got both")

    def with_request(self, request: ConnectionRequest) -> "RDP":
        """Return this carriage with another `request`, for one connection of a gateway.

        This takes a fraction of the time of `dataclasses.replace()`, which checks all attributes again.

        Raises:
            TypeError: `request` is no Connection Request.
            ValueError: The carriage has a cookie, routing token, correlation id or flags of its own.
        """
        expect("request", request, ConnectionRequest)
        other = _copy(self)
        object.__setattr__(other, "request", request)
        other._check_beside_request()  # noqa: SLF001 - of the same class
        return other

    def new_request(self, flags: RequestFlags) -> ConnectionRequest:
        """Make the Connection Request with which a client begins, with these flags."""
        protocols = _ALL_OFFERED if self.hybrid_ex else _OFFERED
        if (request := self.request) is not None:  # field by field, which takes a third of the time of `replace`
            return ConnectionRequest(
                requested_protocols=protocols,
                flags=request.flags | flags if flags else request.flags,
                cookie=request.cookie,
                routing_token=request.routing_token,
                correlation_id=request.correlation_id,
            )
        return ConnectionRequest(
            requested_protocols=protocols,
            flags=flags,
            cookie=self.cookie[:_MAX_COOKIE] or None,
            routing_token=self.routing_token or None,
            correlation_id=self.correlation_id,
        )

    def initiator(self, context: SecurityContext) -> "RDPInitiator":
        """Wrap a client's context."""
        return RDPInitiator(self, context)

    def acceptor(self, config: ServerConfig, new_context: NewContext = ServerConfig.new_context) -> "RDPAcceptor":
        """Make a server's handshake, as `Carriage.acceptor` describes."""
        return RDPAcceptor(self, config, new_context)


_BESIDE_REQUEST: Final = ("cookie", "routing_token", "correlation_id", "request_flags")
"""The attributes of a carriage that `RDP.request` replaces."""
_NOTHING_BESIDE: Final = ("", "", None, _NO_FLAGS)
"""The values that these attributes must have beside a request."""
_beside_request: Final = operator.attrgetter(*_BESIDE_REQUEST)
_copy: Final[Callable[[RDP], RDP]] = copier([field.name for field in dataclasses.fields(RDP)])


class _RDPHandshake(ABC):
    """The part of a handshake that both sides share. `SecurityContext` says what the methods promise.

    Attributes:
        context: The CredSSP context inside.
        state: The state, named after what the handshake waits for next.
        request: The client's Connection Request, once it was sent or received.
        confirm: The server's Connection Confirm, once it was sent or received.
        preconnection: The client's preconnection PDU, once it was sent or received; None for none.
        chosen: Server: the configuration that `route` chose; None for the listener's.
        passed_on: Server: who gets the connection undecrypted, since `route` said so; None for nobody.
    """

    def __init__(self, carriage: RDP, context: SecurityContext) -> None:
        self.context = context
        self.state = RDPState.NEGOTIATION
        self.request: ConnectionRequest | None = None
        self.confirm: ConnectionConfirm | None = None
        self.preconnection: PreconnectionPDU | None = None
        self.chosen: ServerConfig | None = None
        self.passed_on: PassedOn | None = None
        self._carriage = carriage
        self._error: CredSSPError | None = None
        self._unnamed: CredSSPError | None = None
        """The refusal of the first bytes, until more of them tell which protocol they begin."""
        self._refusal = b""
        """Server: the Connection Confirm with a failure code; empty if the negotiation was not refused."""

    @property
    def heard_all(self) -> bool:
        """Whether the peer has sent everything that the handshake needs of it."""
        return self.context.heard_all

    @property
    def farewell(self) -> bytes:
        """The bytes that should still be sent to the peer after a failure."""
        return self._refusal or self.context.farewell

    @property
    def last_token(self) -> bytes:
        """The part of the farewell that the peer should read before the rest arrives."""
        return self._refusal or self.context.last_token

    @property
    def cookie(self) -> str:
        """The name in the client's `mstshash` cookie; empty for none. It is not proven."""
        return (self.request.cookie if self.request else None) or ""

    @property
    def extra_info(self) -> Mapping[str, object]:
        """`"rdp_request"`, `"rdp_confirm"` and `"rdp_preconnection"`.

        RDP itself repeats the first two to detect tampering ([MS-RDPBCGR] 5.4.2.1).
        """
        return {
            "rdp_request": self.request,
            "rdp_confirm": self.confirm,
            "rdp_preconnection": self.preconnection,
        }

    def step(self, data: Buffer = b"") -> StepResult:
        """Take whole units from the front of `data`: an X.224 PDU, then TLS records."""
        self._check_usable()
        return self._guarded(self._step, data)

    def resume(
        self,
        event: Question[Answered],
        answer: Answered,
        early: Buffer = b"",  # noqa: ARG002 - only a server's `Route` uses it
    ) -> StepResult:
        """Give the answer to `StepResult.event`; `early` are the bytes that the peer has sent since the event."""
        self._check_usable()
        if self.state is not RDPState.CREDSSP:
            raise LocalProtocolError("the handshake does not wait for an answer: call step()")
        return self._guarded(self._resume, event, answer)

    def receive_eof(self) -> NoReturn:
        """Note that the transport has ended; raises the error that this means."""
        self._check_usable()
        if self.state is RDPState.CREDSSP:
            self._guarded(self.context.receive_eof, None)
        error = self._unnamed or self._closed_by_peer()
        self.fail(error)
        raise error

    def fail(self, error: CredSSPError) -> None:
        """End the handshake: every later call raises `error`."""
        if self._error is None:
            self._fail(error, b"")

    def _fail(self, error: CredSSPError, last_words: bytes) -> None:
        if error.stage is None and self.state in (RDPState.NEGOTIATION, RDPState.ROUTING):
            error.stage = Stage.NEGOTIATION
        elif error.stage is None and self.state is RDPState.EARLY_USER_AUTH:
            error.stage = Stage.EARLY_USER_AUTH
        self.context.fail(error, last_words)
        self._error = error
        self.state = RDPState.FAILED

    def _guarded(self, action: Callable[..., StepResult], *arguments: object) -> StepResult:
        try:
            return action(*arguments)
        except LocalProtocolError:
            raise
        except CredSSPError as error:
            self.fail(error)
            raise

    def _check_usable(self) -> None:
        if self._error is not None:
            raise self._error
        if self.state is RDPState.DONE:
            raise LocalProtocolError("the handshake is done")

    def _step(self, data: Buffer) -> StepResult:
        match self.state:
            case RDPState.CREDSSP:  # this case comes first, since nearly every step is one
                return self._after_credssp(self.context.step(data))
            case RDPState.NEGOTIATION:
                return self._negotiate(memoryview(data))
            case RDPState.EARLY_USER_AUTH:
                return self._early_user_auth(memoryview(data))
            case RDPState.ROUTING:
                raise LocalProtocolError("the handshake waits for an answer: call resume()")
            case RDPState.DONE | RDPState.FAILED:
                raise AssertionError("checked by the caller")
            case _:
                assert_never(self.state)

    def _resume(self, event: Question[Answered], answer: Answered) -> StepResult:
        return self._after_credssp(self.context.resume(event, answer))

    def _take_pdu(self, data: memoryview) -> bytes | StepResult:
        """Return the one X.224 PDU, or a result that asks for the rest while the PDU is not whole."""
        frame = self._frame(x224.frame_size, data)
        if frame.missing:
            return StepResult.unfinished(frame.missing, len(data))
        if len(data) > frame.total:
            raise _too_early(len(data) - frame.total)
        return bytes(data)

    def _frame(self, measure: Callable[[memoryview], FrameSize], data: memoryview) -> FrameSize:
        """Measure the PDU at the beginning of `data`; another protocol is refused as soon as it can be named."""
        try:
            return measure(data)
        except RemoteProtocolError as error:
            if not first_bytes.undecided(data):
                raise
            self._unnamed = error.with_traceback(None)  # whose frames hold the data
            return FrameSize(0, 1)

    @abstractmethod
    def _negotiate(self, data: memoryview) -> StepResult:
        """Take a step in the state NEGOTIATION."""

    @abstractmethod
    def _after_credssp(self, result: StepResult) -> StepResult:
        """Take a step in the state CREDSSP: pass the context's result on, or begin the next state."""

    @abstractmethod
    def _early_user_auth(self, data: memoryview) -> StepResult:
        """Take a step in the state EARLY_USER_AUTH."""

    @abstractmethod
    def _closed_by_peer(self) -> CredSSPError:
        """Return the error that the end of the transport means outside the state CREDSSP."""


class RDPInitiator(_RDPHandshake):
    """A client's handshake over RDP."""

    def __init__(self, carriage: RDP, context: SecurityContext) -> None:
        super().__init__(carriage, context)
        self._plaintext = b""

    def _negotiate(self, data: memoryview) -> StepResult:
        if self.request is None:
            carriage = self._carriage
            mode = _MODES.get(self.context.handshake.delegated, _NO_FLAGS)
            self.request = carriage.new_request(carriage.request_flags | mode if mode else carriage.request_flags)
            self.preconnection = carriage.preconnection
            output = _encoded(self.preconnection) + self.request.encode()
            return StepResult(SecurityStatus.SEC_I_CONTINUE_NEEDED, output, extra=len(data))
        pdu = self._take_pdu(data)
        if isinstance(pdu, StepResult):
            return pdu
        self.confirm = ConnectionConfirm.decode(pdu)
        self._check_confirm(self.confirm)
        self.state = RDPState.CREDSSP
        return self.context.step()

    def _check_confirm(self, confirm: ConnectionConfirm) -> None:
        offered = _CREDSSP if self._carriage.hybrid_ex else Protocols.HYBRID
        selected = confirm.selected_protocol
        if selected in (Protocols.HYBRID, Protocols.HYBRID_EX) and selected in offered:
            return
        if confirm.failure_code is not None:
            raise NegotiationFailure(
                f"the rdp server refused to negotiate: {confirm.failure_code.name}",
                failure_code=confirm.failure_code,
                hint=_HINTS.get(confirm.failure_code, _NLA_ON_SERVER),
            )
        if selected in (Protocols.HYBRID, Protocols.HYBRID_EX):
            raise NegotiationFailure(
                f"the rdp server chose {selected.names}, which was not offered", hint="update the server"
            )
        chosen = "no protocol, and so standard rdp security," if selected is None else f"{selected.names}"
        raise NegotiationFailure(f"the rdp server chose {chosen} in place of credssp", hint=_NLA_ON_SERVER)

    def _after_credssp(self, result: StepResult) -> StepResult:
        if result.status is not SecurityStatus.SEC_E_OK:
            return result
        assert self.confirm is not None
        if self.confirm.selected_protocol is Protocols.HYBRID_EX:
            self.state = RDPState.EARLY_USER_AUTH
            result.status = SecurityStatus.SEC_I_CONTINUE_NEEDED
            return result
        self.state = RDPState.DONE
        return result

    def _early_user_auth(self, data: memoryview) -> StepResult:
        tls = self.context.tls
        assert tls is not None
        taken, left = 0, MOST_RECORDS_A_CALL
        while (end := tls_record.record_end(data, taken)) <= len(data):
            if not left:
                return StepResult(SecurityStatus.SEC_I_CONTINUE_NEEDED, extra=len(data) - taken)
            self.context.count_records(1, end - taken)
            left -= 1
            self._plaintext += tls.read(data[taken:end])
            taken = end
            if tls.peer_closed:
                raise self._closed_by_peer()
            if len(self._plaintext) >= early_auth.SIZE:
                judge_early_authorization(self._plaintext[: early_auth.SIZE])
                self.context.trailing_data = self._plaintext[early_auth.SIZE :]
                self.state = RDPState.DONE
                return StepResult(SecurityStatus.SEC_E_OK, extra=len(data) - taken)
        return StepResult.unfinished(end - len(data), len(data), taken)

    def _closed_by_peer(self) -> CredSSPError:
        # A server that gets a beginning that it does not expect usually closes the connection without a message.
        hint = OTHER_SIDE_TLS if self.state is RDPState.NEGOTIATION else None
        return PeerClosed("the server ended the connection during the handshake", hint=hint)


class RDPAcceptor(_RDPHandshake):
    """A server's handshake over RDP."""

    def __init__(self, carriage: RDP, config: ServerConfig, new_context: NewContext) -> None:
        super().__init__(carriage, new_context(config))
        self._config = config
        self._new_context = new_context
        self._routing: Route | None = None
        self._admitting: Admit | None = None
        self._clear = b""
        """The Connection Request as it came, kept for whoever the connection is passed on to."""

    def _negotiate(self, data: memoryview) -> StepResult:
        if self._carriage.allow_preconnection and self.preconnection is None and data and data[0] != x224.FIRST_BYTE:
            return self._take_preconnection(data)
        pdu = self._take_pdu(data)
        if isinstance(pdu, StepResult):
            return pdu
        self.request = ConnectionRequest.decode(pdu)
        if self._carriage.route is None:
            return self._confirm(self._carriage.hybrid_ex, self._carriage.response_flags)
        self._clear = pdu
        self.state = RDPState.ROUTING
        self._routing = Route(self.request, self._carriage.route, self.preconnection)
        return StepResult(SecurityStatus.SEC_I_CONTINUE_NEEDED, event=self._routing)

    def _take_preconnection(self, data: memoryview) -> StepResult:
        """Take the preconnection PDU; the Connection Request may have come with it."""
        frame = self._frame(preconnection.frame_size, data)
        if frame.missing:
            return StepResult.unfinished(frame.missing, len(data))
        self.preconnection = PreconnectionPDU.decode(bytes(data[: frame.total]))
        result = self._negotiate(data[frame.total :])
        if result.status is SecurityStatus.SEC_E_INCOMPLETE_MESSAGE:
            result.status = SecurityStatus.SEC_I_CONTINUE_NEEDED  # the PDU was taken
        return result

    def resume(self, event: Question[Answered], answer: Answered, early: Buffer = b"") -> StepResult:
        """Give the answer to `StepResult.event`; `early` are the bytes that the client has sent since the event."""
        if self.state is not RDPState.ROUTING:
            return super().resume(event, answer)
        if event is not self._routing:
            raise other_event(self._routing, event)
        return self._guarded(self._route, answer, early)

    def _route(self, answer: object, early: Buffer) -> StepResult:
        """Take a step in the state ROUTING: go on as the hook's answer says."""
        if isinstance(answer, Passthrough):
            return self._pass_on(answer, len(early))
        if early:
            raise _too_early(len(early))
        match answer:
            case RDPRoute():
                route = answer
            case ServerConfig():
                route = RDPRoute(answer)
            case FailureCode():
                raise self._refused(answer, "the connection was turned away by the server's route")
            case _:
                raise AccessDenied(
                    "the connection was turned away by the server's route", nt_status=NTSTATUS.STATUS_ACCESS_DENIED
                )
        if route.config is not self._config:
            self.chosen = route.config
            self.context = self._new_context(route.config)
        carriage = self._carriage
        return self._confirm(
            carriage.hybrid_ex if route.hybrid_ex is None else route.hybrid_ex,
            carriage.response_flags if route.response_flags is None else route.response_flags,
        )

    def _pass_on(self, answer: Passthrough, early: int) -> StepResult:
        """ROUTING: take no part in the connection. What came early is its receiver's, like all that comes later."""
        before = self.preconnection.encode() if answer.preconnection and self.preconnection is not None else b""
        self.passed_on = PassedOn(answer.connected, before + self._clear)
        self.state = RDPState.DONE
        return StepResult(SecurityStatus.SEC_E_OK, extra=early)

    def _confirm(self, hybrid_ex: bool, flags: ResponseFlags) -> StepResult:
        """Answer the Connection Request."""
        assert self.request is not None
        selected = self._select(self.request.requested_protocols or Protocols.RDP, hybrid_ex)
        self.confirm = ConnectionConfirm(selected_protocol=selected, flags=flags)
        self.state = RDPState.CREDSSP
        return StepResult(SecurityStatus.SEC_I_CONTINUE_NEEDED, self.confirm.encode())

    def _select(self, requested: Protocols, hybrid_ex: bool) -> Protocols:
        if Protocols.HYBRID_EX in requested and hybrid_ex:
            return Protocols.HYBRID_EX
        if Protocols.HYBRID in requested:
            return Protocols.HYBRID
        raise self._refused(
            FailureCode.HYBRID_REQUIRED_BY_SERVER,
            f"the rdp client asked for {requested.names}, expected HYBRID (credssp) among them",
            _NLA_ON_CLIENT,
        )

    def _refused(self, code: FailureCode, message: str, hint: str | None = None) -> NegotiationFailure:
        """Return the failure, whose code is then sent to the client."""
        self._refusal = ConnectionConfirm(failure_code=code).encode()
        return NegotiationFailure(message, failure_code=code, hint=hint)

    @property
    def heard_all(self) -> bool:
        """Whether the client has sent everything that the handshake needs; with HYBRID_EX, it awaits the verdict."""
        return self.context.heard_all and not self._early

    @property
    def _early(self) -> bool:
        return self.confirm is not None and self.confirm.selected_protocol is Protocols.HYBRID_EX

    def _resume(self, event: Question[Answered], answer: Answered) -> StepResult:
        if self._admitting is not None and event is self._admitting and self._early:
            handshake = self.context.handshake
            assert isinstance(handshake, ServerHandshake)
            try:
                handshake.refuse_unless_allowed(answer, "the user is not admitted")
            except AccessDenied as error:
                error.stage = Stage.EARLY_USER_AUTH
                self._fail(error, early_auth.encode(AuthorizationResult.ACCESS_DENIED))
                raise
        return super()._resume(event, answer)

    def _after_credssp(self, result: StepResult) -> StepResult:
        self._admitting = result.event if isinstance(result.event, Admit) else None
        if result.status is not SecurityStatus.SEC_E_OK:
            return result
        self.state = RDPState.DONE
        if not self._early:
            return result
        tls = self.context.tls
        assert tls is not None
        result.output += tls.encrypt(early_auth.encode(AuthorizationResult.SUCCESS))
        return result

    def _early_user_auth(self, data: memoryview) -> NoReturn:  # noqa: ARG002 - only a client has this state
        raise AssertionError("a server sends the result, it never waits for it")

    def _closed_by_peer(self) -> CredSSPError:
        return PeerClosed("the client ended the connection during the handshake")


def judge_early_authorization(result: bytes) -> None:
    """Judge the Early User Authorization Result of a server.

    Raises:
        AccessDenied: The server does not authorize the user.
        RemoteProtocolError: `result` is not such a result.
    """
    if early_auth.decode(result) is not AuthorizationResult.SUCCESS:
        raise AccessDenied(
            "the server did not authorize the user",
            nt_status=NTSTATUS.STATUS_ACCESS_DENIED,
            hint="user and password are right: ask the administrator for the right to log on remotely; a gateway in "
            "between answers the same if its rules refuse the user or if it cannot reach the server: its log says why",
        )


def _encoded(pdu: PreconnectionPDU | None) -> bytes:
    return b"" if pdu is None else pdu.encode()


def _too_early(count: int) -> RemoteProtocolError:
    return RemoteProtocolError(f"expected nothing in clear behind the x.224 pdu, got {count} bytes")
