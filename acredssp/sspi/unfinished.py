"""Work that one call on a context leaves to the next: input that was not taken, or a token that did not fit.

`EstablishState` notes which part of its input a step took, and `Call` notes which part the caller was told of.
"""

from acredssp.core.results import StepResult
from acredssp.sspi.arguments import refusal
from acredssp.status import SecurityStatus

__all__ = ["Unfinished"]


class Unfinished:
    """The unfinished input of one context, and the result that waits for room."""

    # Few contexts change these, so an object costs nothing where they are not changed.
    unsent: tuple[StepResult, bytes] | None = None
    """The result of a call whose token did not fit the caller's buffer, and that call's input: the next call hands the
    token out."""
    rest = b""
    """The part that the last step did not take of its input and of the surplus in front of it."""
    size = 0
    """The size of the last step's input."""
    surplus = b""
    """Input that was not taken and could not be reported, since the caller gave no buffer for the report. It is put in
    front of the next call's input."""
    taken = b""
    """The part of the input in front of a certificate request. It was taken, and the caller may give it again."""

    def forget(self) -> None:
        """Drop bytes that may be secret."""
        self.unsent = None
        self.rest = self.surplus = self.taken = b""

    # --- a step ---

    def begin(self, data: bytes) -> bytes:
        """Note the input of a step, and return the bytes that the step is to take from: the surplus comes first."""
        self.size = len(data)
        return self.surplus + data

    def leave(self, received: bytes, extra: int) -> None:
        """Note that a step left the last `extra` bytes of what it received."""
        self.rest = received[len(received) - extra :] if extra else b""

    def take_nothing(self) -> None:
        """Note that the context is over, so that a call leaves its whole input to the caller."""
        self.rest, self.size = b"", 0

    # --- a certificate request, in the middle of the input ---

    def stop(self, data: bytes) -> None:
        """Note which part of the input was taken in front of a certificate request."""
        self.taken = data[: max(0, len(data) - len(self.rest))]

    def go_on(self, data: bytes) -> None:
        """Find the rest behind a certificate request: the next call gives the same input, or only the rest."""
        again = bool(self.taken) and data.startswith(self.taken)
        self.size = len(data)
        self.rest = data[len(self.taken) :] if again else self.surplus + data

    # --- a token that does not fit ---

    def keep(self, result: StepResult, data: bytes) -> None:
        """Leave a token to the next call, together with the input that it answers."""
        if self.unsent is None:
            self.unsent = (result, data)

    def repeat(self, data: bytes) -> StepResult:
        """Take the input of a call that asks again for a token that did not fit, and return the result with the token.

        Raises:
            LocalProtocolError: The input is only a part of the input that was taken then; nothing changed.
        """
        assert self.unsent is not None
        result, first = self.unsent
        related = data.startswith(first) or first.startswith(data)
        taken = len(first) - len(self.rest)
        if related and 0 < len(data) < taken:
            # No report can say that more bytes were taken than this call gives.
            raise refusal(
                f"pInput: expected again all {taken} bytes that the previous call took, got only the first {len(data)}",
                SecurityStatus.SEC_E_INVALID_PARAMETER,
                hint="call again with the input of the previous call; its token is kept until then",
            )
        self.size = len(first) if related else 0  # other input follows the first call's; none of it was taken
        return result

    # --- the report ---

    def give_back(self, data: bytes, *, reported: bool) -> int:
        """Divide the input that was not taken between the caller and the next call.

        Args:
            data: The input of the call.
            reported: Whether the caller gave a buffer for a report.

        Returns:
            How many bytes at the end of `data` the caller has to give again; the others are the next call's surplus.
        """
        # The bytes behind `size` arrived while the caller made room for the token.
        rest = self.rest + data[self.size :]
        if 0 < len(data) < self.size:  # a repeated call with less input: the caller still has the rest
            unsaid = self.size - len(data)
            rest = rest[:-unsaid] if unsaid <= len(rest) else rest
        count = min(len(rest), len(data)) if reported else 0
        self.surplus = rest[: len(rest) - count]
        return count
