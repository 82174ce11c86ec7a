"""The client of a WS-Management service: requests, one after another or several at once, and lost connections.

A request whose connection is lost may have reached the service. What does no harm twice, such as `Receive`, is sent
again as the same operation ([MS-WSMV] 3.1.4.1.39): a service that had answered already repeats its answer, so no
output is lost. Everything else, above all `Command`, is never sent again: see `OutcomeUnknown`.
"""

import asyncio
import dataclasses
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from acredssp.errors import RemoteProtocolError
from acredssp.winrm.errors import NOT_WINRM, NotSent, OutcomeUnknown, WSManFault
from acredssp.winrm.messages import IDENTIFY, Identity, identity_of
from acredssp.winrm.soap import Reply, Request, Session, parse

__all__ = ["Post", "WSMan", "new_id"]

_logger = logging.getLogger("acredssp.winrm")

Post: TypeAlias = Callable[[bytes], Awaitable[tuple[int, bytes]]]
"""Sends an envelope over an authenticated connection; returns the HTTP status and the envelope of the answer.

It raises `NotSent` where there was no connection to send it over, and another `OSError` where the connection was lost,
such as `ConnectionResetError`. Several calls may wait at once.
"""

_UNKNOWN_HINT: Final = "look on the server whether it was done, before you do it again"
_LOST: Final = "the connection was lost during the request %s: trying to reach the service again for %.0f seconds"
_WORTH_TELLING: Final = 2
"""Losses on end after which the wait is told. One alone is over in a moment, and no output is lost."""
_GRACE: Final = 30.0
"""Seconds that an answer may take beyond the operation time-out: the way there and back, and a logon on the way."""
_LONGEST_DELAY: Final = 15.0
_LEAST_LIMIT: Final = 1 << 20
_OK: Final = 200
_STATUS_HINTS: Final = {
    401: "the service wants a new logon: the connection was logged on before",
    403: "the service refuses this user, or this way to reach it",
    404: "check the path of the url: WinRM's is /wsman",
    405: NOT_WINRM,
    413: "ask for smaller envelopes",
    500: "the service failed without saying why: its event log may say it (Windows Remote Management)",
    501: NOT_WINRM,
    503: "the service WinRM does not run there, or is busy: run `winrm quickconfig` there",
}


class WSMan:
    """The requests of one user to one service.

    Args:
        post: Sends an envelope.
        url: The address of the service, such as `http://host:5985/wsman`.
        max_envelope_size: Bytes of an envelope at most. 153,600 is what every service takes; larger ones take more
            output at once.
        operation_timeout: Seconds within which the service answers a request, even if it has nothing to tell yet.
        locale: The language of texts, after RFC 3066.
        keep_trying: Seconds for which a request that may be repeated is sent again after the connection was lost.
        first_delay: Seconds before it is sent again first; the delay doubles each time.

    Attributes:
        session: What all requests have in common.
    """

    def __init__(  # noqa: PLR0913
        self,
        post: Post,
        url: str,
        *,
        max_envelope_size: int = 153_600,
        operation_timeout: float = 20.0,
        locale: str = "en-US",
        keep_trying: float = 180.0,
        first_delay: float = 0.5,
    ) -> None:
        self._post = post
        self.session = Session(url=url, session_id=new_id(), max_envelope_size=max_envelope_size, locale=locale)
        self._timeout, self._keep_trying, self._first_delay = operation_timeout, keep_trying, first_delay
        self._limit = max(_LEAST_LIMIT, 2 * max_envelope_size)
        self._identity: Identity | None = None

    def __repr__(self) -> str:
        return f"<WSMan {self.session.url.rpartition('@')[2]}>"  # without a password of the url

    async def identify(self) -> Identity:
        """Ask once which service it is.

        Raises:
            CredSSPError: The logon failed, or the server is no WS-Management service.
            OSError: The server cannot be reached.
        """
        if self._identity is None:
            self._identity = identity_of(await self._exchange(IDENTIFY, None))
        return self._identity

    async def request(self, request: Request, *, robust: bool = False) -> Reply:
        """Send a request, and return its answer.

        Args:
            request: The request.
            robust: Whether the service is known to repeat an answer that got lost, as `Reply.robust` says of another
                answer. It then gets a request that is sent again as the same operation, and otherwise as a new one:
                older services refuse what they do not know.

        Raises:
            WSManFault: The service refuses it.
            OutcomeUnknown: The connection was lost, and the request must not be sent twice.
            OSError: The service could not be reached, or not again in time.
            CredSSPError: The logon failed, or the answer breaks the rules.
        """
        message_id, operation_id = new_id(), new_id()
        loop, again, delay, losses = asyncio.get_running_loop(), False, self._first_delay, 0
        give_up = loop.time() + self._keep_trying
        while True:
            # A service repeats its answer as it was, and so with the name of the first message: there is only one.
            envelope = request.encode(self.session, message_id, operation_id, self._timeout, again=again and robust)
            try:
                return dataclasses.replace(await self._exchange(envelope, message_id), repeated=again)
            except OSError as error:
                _logger.debug("%s: the connection was lost: %s: %s", request.name, type(error).__name__, error)
                if not request.repeatable:
                    if isinstance(error, NotSent | ConnectionRefusedError):
                        raise
                    raise OutcomeUnknown(_unknown(request.name, error), hint=_UNKNOWN_HINT) from error
                if loop.time() + delay >= give_up:
                    raise
                losses += 1
                if losses == _WORTH_TELLING:
                    _logger.warning(_LOST, request.name, self._keep_trying)
            await asyncio.sleep(delay)
            if not robust:
                message_id, operation_id = new_id(), new_id()
            again, delay = True, min(2 * delay, _LONGEST_DELAY)

    async def _exchange(self, envelope: bytes, message_id: str | None) -> Reply:
        async with asyncio.timeout(self._timeout + _GRACE):
            status, answer = await self._post(envelope)
        _logger.debug("sent %d bytes, got http status %d and %d bytes", len(envelope), status, len(answer))
        try:
            reply = parse(answer, self._limit, message_id)
        except WSManFault:
            raise
        except RemoteProtocolError:
            if status == _OK:
                raise
        else:
            if status == _OK:
                return reply
        raise RemoteProtocolError(
            f"expected http status 200 and an envelope, got http status {status}",
            hint=_STATUS_HINTS.get(status, NOT_WINRM),
        )


def new_id() -> str:
    """Return a new UUID as WinRM writes it."""
    return str(uuid.uuid4()).upper()


def _unknown(name: str, error: OSError) -> str:
    why = str(error) or type(error).__name__
    return f"the connection was lost during the request {name}, which is not repeated: {why}"
