"""What a client's handshake delegates, as the wire has it: the users' credentials in, `TSCredentials` out.

Who calls: `config`, once a configuration; `core/client.py` sends what comes of it.
"""

from typing import Final, Protocol

from acredssp.credentials import DelegatedKind, Nothing, Password, RemoteGuard, SmartCard
from acredssp.wire.ts_credentials import (
    SecretText,
    TSCredentials,
    TSCspDataDetail,
    TSPasswordCreds,
    TSRemoteGuardCreds,
    TSSmartCardCreds,
    UnicodeString,
)

__all__ = ["DELEGABLE", "EMPTY_CREDENTIALS", "TS_CREDENTIALS", "FetchedCredentials", "as_sent"]

TS_CREDENTIALS: Final = (TSPasswordCreds, TSSmartCardCreds, TSRemoteGuardCreds)
"""The members of `TSCredentials`."""

DELEGABLE: Final = (Password, SmartCard, RemoteGuard, Nothing, *TS_CREDENTIALS)
"""What may be asked to be delegated."""

EMPTY_CREDENTIALS: Final = TSPasswordCreds.of()
"""What is sent where nothing is delegated ([MS-CSSP] 2.2.1.2.1)."""


class FetchedCredentials(Protocol):
    """What is delegated, where somebody has to be asked for it once it is known that it may go."""

    @property
    def kind(self) -> DelegatedKind:
        """As of the `TSCredentials` that it will be."""

    def fetch(self) -> bytes:
        """Return the DER of the `TSCredentials`. May block."""


def as_sent(delegate: Password | SmartCard | RemoteGuard | Nothing | TSCredentials) -> TSCredentials | RemoteGuard:
    """Return credentials as the wire has them; `RemoteGuard` as it is, since its ticket is fetched for each server."""
    match delegate:
        case Password():
            return TSPasswordCreds.of(delegate.domain, delegate.user, delegate.password)
        case SmartCard():
            return _smart_card(delegate)
        case Nothing():
            return EMPTY_CREDENTIALS
        case _:
            return delegate


def _smart_card(card: SmartCard) -> TSSmartCardCreds:
    """Return the card as the wire has it: an empty field is left out ([MS-CSSP] 2.2.1.2.2.1)."""
    names = (UnicodeString(name) if name else None for name in (card.card_name, card.reader_name,
                                                                card.container_name, card.csp_name))  # fmt: skip
    hints = (UnicodeString(hint) if hint else None for hint in (card.user, card.domain))
    return TSSmartCardCreds(SecretText(card.pin), TSCspDataDetail(card.key_spec, *names), *hints)
