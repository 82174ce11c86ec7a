"""Turns the credentials that a user delegates into the form of the wire, `TSCredentials`.

Who calls: `config`, once for each configuration; `core/client.py` sends the result.
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
"""The types of credentials that a configuration can delegate."""

EMPTY_CREDENTIALS: Final = TSPasswordCreds.of()
"""The credentials that are sent where nothing is delegated ([MS-CSSP] 2.2.1.2.1)."""


class FetchedCredentials(Protocol):
    """Credentials that have to be fetched from elsewhere, once it is decided that they may be delegated."""

    @property
    def kind(self) -> DelegatedKind:
        """The kind of the `TSCredentials` that `fetch` will return."""

    def fetch(self) -> bytes:
        """Return the DER of the `TSCredentials`. May block."""


def as_sent(delegate: Password | SmartCard | RemoteGuard | Nothing | TSCredentials) -> TSCredentials | RemoteGuard:
    """Return credentials in the wire's form; `RemoteGuard` stays as it is, since each server gets its own ticket."""
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
    """Return the card in the wire's form, without its empty fields ([MS-CSSP] 2.2.1.2.2.1)."""
    names = (UnicodeString(name) if name else None for name in (card.card_name, card.reader_name,
                                                                card.container_name, card.csp_name))  # fmt: skip
    hints = (UnicodeString(hint) if hint else None for hint in (card.user, card.domain))
    return TSSmartCardCreds(SecretText(card.pin), TSCspDataDetail(card.key_spec, *names), *hints)
