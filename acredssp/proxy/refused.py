"""Why a user is not connected to a target.

A refusal has two readers. The user is told a status (`Refused.status`), the target's own where the target gave one. The
operator is told the reason (`str(refused)`), which names the target and what to do.
"""

from acredssp import NTSTATUS

__all__ = ["Refused"]


class Refused(Exception):
    """The user is not connected to the target.

    Args:
        reason: For the operator.
        status: For the user.
        error: What it comes from; None where a rule of ours refuses.
    """

    def __init__(self, reason: str, status: NTSTATUS, error: BaseException | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.error = error
