"""A client's second choice: NTLM where Kerberos fails before it has said anything.

SPNEGO lets the server choose another mechanism; here it is the client that has no token for its first one, since no
KDC answers or none knows the service. Only the failures that the policy names lead on, and only while nothing has been
sent: what the server has seen stays what was offered.
"""

from collections.abc import Callable

from acredssp.errors import CredSSPError
from acredssp.mechanisms.base import Mechanism, Principal, Progress
from acredssp.status import SecurityStatus

__all__ = ["FallingBack"]


class FallingBack:
    """An initiator that goes on with another one. See `acredssp.mechanisms.base.Mechanism`.

    Args:
        first: Fresh, and tried first; or why there is none.
        second: Makes the other one.
        causes: The failures of `first` that lead on to it.
    """

    def __init__(
        self, first: Mechanism | CredSSPError, second: Callable[[], Mechanism], causes: frozenset[SecurityStatus]
    ) -> None:
        self._second: Callable[[], Mechanism] | None = second
        """None once something was sent, or the second one has begun."""
        self._causes = causes
        self._why = ""
        self._current = self._begin_second(first) if isinstance(first, CredSSPError) else first

    @property
    def name(self) -> str:
        """The package that authenticates."""
        return self._current.name

    @property
    def complete(self) -> bool:
        """Whether the context is established."""
        return self._current.complete

    @property
    def principal(self) -> Principal | None:
        """None, as for every initiator."""
        return self._current.principal

    @property
    def authenticates_server(self) -> bool:
        """Whether the server is proven; see `Mechanism.authenticates_server`."""
        return self._current.authenticates_server

    @property
    def ends(self) -> int | None:
        """When what was logged on with ends; see `Mechanism.ends`."""
        return self._current.ends

    @property
    def fallback(self) -> str:
        """Why it is not the first choice that authenticates; empty while it is."""
        return self._why or self._current.fallback

    def step(self, token: bytes) -> Progress:
        """Take the server's token; see `Mechanism.step`."""
        return self._try(lambda: self._current.step(token))

    def resume(self, answer: object) -> Progress:
        """Give the answer to an event; see `Mechanism.resume`."""
        return self._try(lambda: self._current.resume(answer))

    def wrap(self, plaintext: bytes) -> bytes:
        """Sign and seal; see `Mechanism.wrap`."""
        return self._current.wrap(plaintext)

    def unwrap(self, sealed: bytes) -> bytes:
        """Verify and unseal; see `Mechanism.unwrap`."""
        return self._current.unwrap(sealed)

    def get_mic(self, message: bytes) -> bytes:
        """Sign; see `Mechanism.get_mic`."""
        return self._current.get_mic(message)

    def verify_mic(self, message: bytes, mic: bytes) -> None:
        """Verify; see `Mechanism.verify_mic`."""
        self._current.verify_mic(message, mic)

    def _try(self, go_on: Callable[[], Progress]) -> Progress:
        try:
            progress = go_on()
        except CredSSPError as error:
            self._current = self._begin_second(error)
            return self._current.step(b"")
        if isinstance(progress, bytes):
            self._second = None
        return progress

    def _begin_second(self, error: CredSSPError) -> Mechanism:
        make, self._second = self._second, None
        if make is None or error.security_status not in self._causes:
            raise error
        self._why = error.message
        return make()
