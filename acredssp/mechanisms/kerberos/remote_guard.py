"""The client's part of Remote Credential Guard: a forwarded ticket, sealed for the server's host.

[MS-CSSP] 2.2.1.2.3. Windows keeps the ticket's key on the client, and uses it for the server over a virtual channel
([MS-RDPEAR]). This module delegates the ticket together with its key, as FreeRDP does, but seals them with the key of
the host's service ticket, as note 22 demands.
"""

from acredssp.credentials import DelegatedKind, RemoteGuard
from acredssp.errors import PolicyError
from acredssp.mechanisms.kerberos.tickets import Tickets, parse_spn
from acredssp.wire import ts_credentials
from acredssp.wire.ticket_logon import KerbTicketLogon
from acredssp.wire.ts_credentials import TSRemoteGuardCreds, TSRemoteGuardPackageCred, UnicodeString

__all__ = ["GuardedTicket"]

_PACKAGE = UnicodeString("Kerberos")


class GuardedTicket:
    """The ticket that `RemoteGuard` delegates to one server. It is fetched once it may be delegated.

    Args:
        tickets: The tickets of the logon.
        guard: The delegation that the caller asked for.
        spn: The server's service principal name.
    """

    kind = DelegatedKind.REMOTE_GUARD

    def __init__(self, tickets: Tickets, guard: RemoteGuard, spn: str) -> None:
        self._tickets = tickets
        self._service = guard.service
        _, self._host = parse_spn(spn)

    def fetch(self) -> bytes:
        """Ask the KDC for a forwarded ticket and the host's service ticket; return the DER of the TSCredentials.

        Raises:
            AuthenticationError: The ticket may not be forwarded, or the KDC does not know the host.
            PolicyError: The libraries are not installed.
        """
        try:
            from acredssp.mechanisms.kerberos.forwarding import forward  # noqa: PLC0415 - loads libkrb5
        except ImportError as error:
            raise PolicyError(
                "remote credential guard needs libkrb5, python-gssapi and python-krb5, which are not installed",
                hint="install acredssp[kerberos]; on Windows delegate something else",
            ) from error
        service_ticket, forwarded = forward(self._tickets, self._service, self._host)
        logon = KerbTicketLogon(service_ticket, forwarded)
        # FreeRDP's client sends an empty list of supplemental credentials, and its servers accept that.
        return ts_credentials.encode(TSRemoteGuardCreds(TSRemoteGuardPackageCred(_PACKAGE, logon.encode()), ()))
