"""A client's fallback to NTLM, where Kerberos fails before the client has sent anything.

With SPNEGO the server may choose another mechanism. Here the client changes the mechanism itself, because it cannot
make a token for its first choice: no KDC answers, or the KDC does not know the service. It does so only for the
failures that the policy names, and only while nothing has been sent: after that the offer to the server stands.
"""

from collections.abc import Callable

from acredssp.errors import CredSSPError
from acredssp.mechanisms.base import Mechanism, Principal, Progress, Sealing
from acredssp.status import SecurityStatus

__all__ = ["FallingBack"]


class FallingBack:
    """An initiator that falls back to another one. See `acredssp.mechanisms.base.Mechanism`.

    Args:
        first: The fresh initiator to try first; or the error that prevented it.
        second: Makes the initiator to fall back to.
        causes: The failures of `first` that lead to `second`.
    """

    def __init__(
        self, first: Mechanism | CredSSPError, second: Callable[[], Mechanism], causes: frozenset[SecurityStatus]
    ) -> None:
        self._second: Callable[[], Mechanism] | None = second
        """None once something was sent, or the second initiator has begun."""
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
        """When the ticket of the logon ends; see `Mechanism.ends`."""
        return self._current.ends

    @property
    def fallback(self) -> str:
        """Why the first choice is not used; empty while it is."""
        return self._why or self._current.fallback

    def step(self, token: bytes) -> Progress:
        """Take the server's token; see `Mechanism.step`."""
        return self._try(lambda: self._current.step(token))

    def resume(self, answer: object) -> Progress:
        """Take the answer to an event; see `Mechanism.resume`."""
        return self._try(lambda: self._current.resume(answer))

    @property
    def sealing(self) -> Sealing:
        """What seals and unseals; see `Mechanism.sealing`."""
        return self._current.sealing

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
