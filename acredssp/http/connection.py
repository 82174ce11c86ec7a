"""One connection that is logged on: the exchange over an HTTP library's connection, and the sealed requests after it.

Requests are sent once. The server may have acted on a request whose connection ended before the answer came, so nothing
is sent again, whatever its method is. A connection that the server has closed while it was idle is noticed before
anything is sent.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, cast

from acredssp.aio import ClientAnswers, answer_events
from acredssp.config import ClientConfig
from acredssp.errors import CredSSPError, LocalProtocolError, RemoteProtocolError
from acredssp.http import failures
from acredssp.http.envelope import is_sealed
from acredssp.http.errors import HTTPProtocolError
from acredssp.http.headers import has_body, one_value, values_of
from acredssp.http.initiator import SHARED_HINT, ClientExchange, ClientTurn
from acredssp.http.opening import Opener
from acredssp.http.sealing import Sealer
from acredssp.http.wire import Fault, Field, Origin, Request, Wire, WireResponse, connect_limit, limit_of
from acredssp.tls import end_point_binding

__all__ = ["Identity", "LoggedOn", "Response", "log_on", "name_origin"]

_MOST_OF_A_LEG: Final = 65_536
"""Bytes of a body that may come with a leg of the logon. Only its beginning is of use."""
_MOST_WORDS: Final = 1_000
"""Bytes of such a body that are kept for an error text."""
_LEAST_PIECE: Final = 64
"""What a piece of such a body counts for at least, since a server may send it in tiny chunks."""
_AT_ONCE: Final = 100
"""Pieces of a body that are taken in one turn of the loop: a server may have sent thousands of tiny chunks."""
_PIECE: Final = 65_536
"""Bytes of a request's body that are sealed at a time."""
_UNSEALED_HINT: Final = (
    "send a body of at least one byte, which is sealed, or have the server take unsealed requests: acredssp's by "
    'dangerous_allow_unsealed=True, WinRM by `winrm set winrm/config/service @{AllowUnencrypted="true"}`'
)
_OCTETS: Final = "application/octet-stream"
_OF_THE_BODY: Final = frozenset({b"content-type", b"content-length", b"transfer-encoding", b"accept-encoding"})
_UNAUTHORIZED: Final = 401
_FIRST_ANSWER: Final = 200
_TOO_LARGE: Final = 413
_FIRST_ERROR: Final = 400
_WITHOUT_BODY: Final = frozenset({204, 304})


class Identity:
    """Whose connection to which service it is. Equal identities have the same configuration, and not an equal one.

    Args:
        origin: Where the connection goes to.
        config: Who logs on, and how.
        host: The name of the service, which its certificate inside CredSSP has to have.
        spn: The service principal name; None for `HTTP/` and the host.
    """

    __slots__ = ("config", "host", "origin", "spn")

    def __init__(self, origin: Origin, config: ClientConfig, host: str, spn: str | None) -> None:
        self.origin, self.config, self.host, self.spn = origin, config, host, spn

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Identity)
            and self.config is other.config
            and (self.origin, self.host, self.spn) == (other.origin, other.host, other.spn)
        )

    def __hash__(self) -> int:
        return hash((self.origin, id(self.config), self.host, self.spn))


async def log_on(wire: Wire, identity: Identity, request: Request) -> "LoggedOn":
    """Connect and log on, by requests with empty bodies and with the method and the path of the request to come.

    Raises:
        HandshakeTimeout: The logon took longer than the policy allows.
        CredSSPError: The logon failed. In every case the connection has ended.
    """
    exchange: ClientExchange | None = None
    try:
        await wire.connect(request)
        binding = end_point_binding(wire.certificate) if wire.certificate is not None else None
        exchange = ClientExchange(identity.config, identity.host, spn=identity.spn, channel_bindings=binding)
        async with asyncio.timeout(identity.config.policy.handshake_timeout):
            await _exchange(wire, exchange, identity, request)
    except BaseException as error:
        wire.abort()
        if isinstance(error, asyncio.CancelledError):  # a caller whose time limit has passed learns how far this came
            error.add_note(exchange.step if exchange is not None else f"before {identity.origin} was connected")
        told = _told(wire, identity.origin, exchange, request, error) if isinstance(error, Exception) else error
        if told is error:
            raise
        raise told from error
    return LoggedOn(wire, identity, exchange)


def name_origin(error: CredSSPError, origin: Origin) -> None:
    """Say in an error which service it is about; a client may have many."""
    if str(origin) not in error.message:
        error.message = f"{origin}: {error.message}"


def _told(wire: Wire, origin: Origin, exchange: ClientExchange | None, request: Request, error: Exception) -> Exception:
    """Return the error for the caller. Only an error of the HTTP library that ended a logon becomes another one."""
    if type(error) is TimeoutError:  # the policy's time limit
        return failures.of_logon(origin, exchange, Fault.TIMEOUT)
    found = wire.fault_of(error)
    if found is None:
        return error
    if wire.connected:
        return failures.of_logon(origin, exchange, found[0])
    failure = failures.of_connecting(origin, error, *found, connect_limit(request))
    return told_by(wire, error, failure)


def told_by(wire: Wire, error: Exception, failure: failures.Failure) -> Exception:
    """Return the library's error with the words of a failure, which its attribute `failure` has apart."""
    told: Any = wire.told(error, str(failure))
    told.failure = failure
    return cast("Exception", told)


async def _exchange(wire: Wire, exchange: ClientExchange, identity: Identity, request: Request) -> None:
    answers = ClientAnswers(identity.config, identity.host)
    kept = [field for field in request.headers if field[0].lower() in {b"host", b"user-agent"}]
    turn: ClientTurn = await answer_events(exchange, exchange.start(), answers)
    while turn.authorization:
        headers = [*kept, (b"Authorization", turn.authorization.encode()), (b"Content-Length", b"0")]
        leg = Request(request.method, request.target, headers, None, request.extensions)
        response = await wire.send(leg)
        said = await _skip(response)
        turn = await answer_events(exchange, exchange.receive(response.status, response.headers, said), answers)
    if not wire.is_usable:
        raise HTTPProtocolError("expected a connection that stays open after the logon, got one that the server closes")


async def _skip(response: WireResponse) -> bytes:
    """Read a body so that the connection can be used further; a long one ends the connection.

    Returns:
        The beginning of the body, which may say in words what the status means.
    """
    left, said = _MOST_OF_A_LEG, b""
    try:
        async for piece in response:
            said += piece[: _MOST_WORDS - len(said)]
            left -= max(len(piece), _LEAST_PIECE)
            if left < 0:
                break
    finally:
        await response.aclose()
    return said


class LoggedOn:
    """A connection that is logged on. `send()` sends one request at a time.

    Args:
        wire: The connection.
        identity: Whose it is.
        exchange: The logon that is complete.
    """

    def __init__(self, wire: Wire, identity: Identity, exchange: ClientExchange) -> None:
        self.identity = identity
        self._wire, self._context = wire, exchange.context
        self._ended = False

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent."""
        return not self._ended and self._wire.is_usable

    def abort(self) -> None:
        """End the connection at once."""
        self._ended = True
        self._wire.abort()

    async def send(
        self, request: Request, *, limit: int, allow_unsealed: bool, ended: Callable[["LoggedOn"], object]
    ) -> "Response":
        """Seal a request, send it, and return the response, whose body is opened as it comes.

        Args:
            request: The request in plain.
            limit: Bytes that the body of the response may have, in plain.
            allow_unsealed: Whether requests without a body, and plain bodies of successful responses, are taken.
            ended: Called once the connection is no longer needed.
        """
        self._ended = True  # until the response has come to its end
        sealed = request if request.body is None and allow_unsealed else self._sealed(request)
        try:
            raw = await self._wire.send(sealed)
        except Exception as error:
            found = self._wire.fault_of(error)
            if found is None:
                raise
            failure = failures.of_request(self.identity.origin, found[0], limit_of(request, "read"))
            raise told_by(self._wire, error, failure) from error
        response = Response(self, raw, ended, limit, limit_of(request, "read"))
        takes_plain = allow_unsealed or self.identity.origin.scheme == "https"
        try:
            opener = self._opener(request, raw, limit=limit, allow_unsealed=allow_unsealed)
            await response.open(opener, takes_plain=takes_plain)
        except BaseException:
            self.abort()
            await raw.aclose()
            raise
        return response

    def told(self, error: Exception, seconds: float | None) -> Exception | None:
        """Return the error for an answer whose rest did not come; None if `error` is none of the library.

        Args:
            error: What the library raised.
            seconds: The time limit for each wait; None where there is none.
        """
        found = self._wire.fault_of(error)
        if found is None:
            return None
        return told_by(self._wire, error, failures.of_answer(self.identity.origin, found[0], seconds))

    def note_end(self, *, reusable: bool) -> None:
        """Note that the response has come to its end."""
        self._ended = not reusable
        if not reusable:
            self.abort()

    def _sealed(self, request: Request) -> Request:
        assert request.body is not None
        length = values_of(request.headers, "Content-Length")
        content_type = one_value(request.headers, "Content-Type") or _OCTETS
        sealer = Sealer(self._context, int(length[0]) if length else None, content_type)
        body: AsyncIterable[bytes] | bytes
        if isinstance(request.body, bytes):
            body = sealer.feed(request.body) + sealer.finish()
            size: int | None = len(body)
        else:
            body, size = _seal(sealer, request.body), sealer.size
        headers = [field for field in request.headers if field[0].lower() not in _OF_THE_BODY]
        headers += [(b"Accept-Encoding", b"identity"), (b"Content-Type", sealer.media_type.encode())]
        headers.append((b"Transfer-Encoding", b"chunked") if size is None else (b"Content-Length", b"%d" % size))
        return Request(request.method, request.target, headers, body, request.extensions)

    def _opener(self, request: Request, raw: WireResponse, *, limit: int, allow_unsealed: bool) -> Opener | None:
        """Return what opens the body of a response; None for a plain body that may pass.

        Raises:
            HTTPProtocolError: The body is plain and may not pass, or it is coded beside being sealed.
        """
        if raw.status < _FIRST_ANSWER:
            raise HTTPProtocolError(f"expected an answer, got status {raw.status}, behind which no http is spoken")
        content_type = one_value(raw.headers, "Content-Type")
        sealed = is_sealed(content_type)
        if sealed or not allow_unsealed:
            _check_coding(raw)
        if sealed:
            return Opener(self._context, content_type, limit=limit)
        if raw.status == _UNAUTHORIZED:
            raise _forgotten(sent_sealed=request.body is not None or not allow_unsealed)
        if raw.status < _FIRST_ERROR and not _is_empty(request.method, raw) and not allow_unsealed:
            raise HTTPProtocolError(
                f"expected a sealed answer, got a plain one with status {raw.status}",
                hint="anybody in between can write a plain answer; over https, dangerous_allow_unsealed takes it",
            )
        return None


def _forgotten(*, sent_sealed: bool) -> HTTPProtocolError:
    """Return the error for a 401 behind the logon."""
    if sent_sealed:
        return HTTPProtocolError("the server does not know this connection as logged on any more", hint=SHARED_HINT)
    return HTTPProtocolError(
        "the server refused a request without a sealed body: dangerous_allow_unsealed of this client lets it be sent, "
        "and the server has a switch of its own",
        hint=f"{_UNSEALED_HINT}; or {SHARED_HINT}",
    )


def _check_coding(raw: WireResponse) -> None:
    """Refuse what the HTTP library would unpack, without a bound, although `_sealed` asked for no such answer.

    Raises:
        HTTPProtocolError: The body is coded.
    """
    coding = ",".join(values_of(raw.headers, "Content-Encoding")).lower()
    if coding not in {"", "identity"}:
        raise HTTPProtocolError(f"expected a body without another coding, got {coding[:20]!a}")


def _is_empty(method: str, raw: WireResponse) -> bool:
    """Whether a response has no body. A Content-Length of 0 says so only where no Transfer-Encoding overrules it."""
    empty = bool(values_of(raw.headers, "Content-Length")) and not has_body(raw.headers)
    return empty or method == "HEAD" or raw.status in _WITHOUT_BODY


class Response:
    """A response. Iterate over it to get its body in pieces, and call `aclose()` at the end in every case.

    Args:
        connection: The connection that it comes over.
        raw: The response as it came.
        ended: Called once the connection is no longer needed.
        limit: Bytes that the body may have, in plain.
        seconds: The time limit for each piece, for an error text; None where there is none.

    Attributes:
        status: The status code. Neither it nor the header fields are sealed: only HTTPS protects them.
        headers: The header fields; those of the body are the plaintext's.
        extensions: What the HTTP library says beside the response.
        sealed: Whether the body came sealed. The body of an error may come in plain, and so may an empty body, which
            proves nothing in either form.
    """

    def __init__(
        self,
        connection: LoggedOn,
        raw: WireResponse,
        ended: Callable[[LoggedOn], object],
        limit: int,
        seconds: float | None,
    ) -> None:
        self.status = raw.status
        self.headers: Sequence[Field] = raw.headers
        self.extensions: Mapping[str, Any] = raw.extensions
        self.sealed = False
        self._connection, self._raw, self._ended, self._limit = connection, raw, ended, limit
        self._opener: Opener | None = None
        self._seconds = seconds
        self._first = b""
        self._left = limit
        self._taken = 0
        """Pieces of the body that have come."""
        self._pieces = raw.__aiter__()
        self._closed = False
        self._complete = False
        self._takes_plain = False

    async def open(self, opener: Opener | None, *, takes_plain: bool) -> None:
        """Read until the type of the plaintext is known.

        Args:
            opener: Opens the body; None for a plain body that may pass.
            takes_plain: Whether the connection is used further after an answer that does not show who made it. Somebody
                in between may have kept the server's own answer, which the next request would get for its own.
        """
        self._opener, self._takes_plain = opener, takes_plain
        if opener is None:
            return
        self.sealed = True
        try:
            while not opener.content_type and (piece := await anext(self._pieces, None)) is not None:
                self._first += opener.feed(piece)
                await self._give_others_a_turn()
            if not opener.content_type:
                opener.finish()
        except CredSSPError as error:
            self._explain(error)
            raise
        except Exception as error:
            self._raise_told(error)
            raise
        headers = [field for field in self.headers if field[0].lower() not in _OF_THE_BODY]
        self.headers = [*headers, (b"Content-Type", opener.content_type.encode())]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._closed:
            raise LocalProtocolError(
                "the answer is closed: its body can be read once, and only while the answer is open",
                hint="read the body within the block of `async with` that sends the request",
            )
        try:
            if self._first:
                yield self._first
            async for piece in self._pieces:
                if plaintext := self._plain(piece) if self._opener is None else self._opener.feed(piece):
                    yield plaintext
                await self._give_others_a_turn()
            if self._opener is not None:
                self._opener.finish()
            self._complete = True
        except CredSSPError as error:
            self._explain(error)
            name_origin(error, self._connection.identity.origin)
            raise
        except Exception as error:
            self._raise_told(error)
            raise
        finally:
            await self.aclose()

    def _explain(self, error: CredSSPError) -> None:
        """Tell in an error what it means for an answer, where the error has no hint of its own."""
        if error.hint is not None or not isinstance(error, RemoteProtocolError):
            return
        if isinstance(error, HTTPProtocolError) and error.http_status == _TOO_LARGE:
            error.hint = "raise response_limit"
        elif self._opener is not None:
            error.message = f"the sealed answer cannot be opened: {error.message}"
            error.hint = f"{SHARED_HINT}; {failures.ONCE}"

    def _raise_told(self, error: Exception) -> None:
        """Raise the library's error with our words; return if `error` is none of the library."""
        told = self._connection.told(error, self._seconds)
        if told is not None:
            raise told from error

    async def _give_others_a_turn(self) -> None:
        self._taken += 1
        if not self._taken % _AT_ONCE:
            await asyncio.sleep(0)

    def _plain(self, piece: bytes) -> bytes:
        """Take a piece of a plain body, which anybody in between may write without end."""
        self._left -= len(piece)
        if self._left < 0:
            raise HTTPProtocolError(f"expected a body of at most {self._limit} bytes, got a longer one", _TOO_LARGE)
        return piece

    async def aclose(self) -> None:
        """Give the connection back. Unless the body has been read to its end, the connection ends."""
        if self._closed:
            return
        self._closed = True
        plain_error = self._opener is None and self.status >= _FIRST_ERROR  # nobody knows how far the server has read
        try:
            await self._raw.aclose()
        finally:
            proven = self._takes_plain or (self._opener is not None and self._opener.proven)
            self._connection.note_end(reusable=self._complete and proven and not plain_error)
            self._ended(self._connection)


async def _seal(sealer: Sealer, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for chunk in body:
        for start in range(0, len(chunk), _PIECE):
            if sealed := sealer.feed(memoryview(chunk)[start : start + _PIECE]):
                yield sealed
    yield sealer.finish()
