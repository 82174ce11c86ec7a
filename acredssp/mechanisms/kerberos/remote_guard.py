"""Remote Credential Guard, the client's part: a forwarded ticket, sealed for the server's host ([MS-CSSP] 2.2.1.2.3).

Windows' own keeps the ticket's key on the client and answers for it over a virtual channel ([MS-RDPEAR]). What goes
over here is the ticket with its key, as FreeRDP's, but sealed with the key of the host's service ticket as note 22 has
it.
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
    """What `RemoteGuard` delegates to one server; fetched when it is known that it may go.

    Args:
        tickets: What the logon is made with.
        guard: What the caller asked for.
        spn: The server's.
    """

    kind = DelegatedKind.REMOTE_GUARD

    def __init__(self, tickets: Tickets, guard: RemoteGuard, spn: str) -> None:
        self._tickets = tickets
        self._service = guard.service
        _, self._host = parse_spn(spn)

    def fetch(self) -> bytes:
        """Ask the KDC for a forwarded ticket and for one of the host, and return the DER of the TSCredentials.

        Raises:
            AuthenticationError: There is no such ticket, or no such host.
            PolicyError: This machine has not the libraries.
        """
        try:
            from acredssp.mechanisms.kerberos.forwarding import forward  # noqa: PLC0415 - loads libkrb5
        except ImportError as error:
            raise PolicyError(
                "remote credential guard takes libkrb5, python-gssapi and python-krb5",
                hint="there is none on Windows: delegate something else",
            ) from error
        service_ticket, forwarded = forward(self._tickets, self._service, self._host)
        logon = KerbTicketLogon(service_ticket, forwarded)
        # FreeRDP sends an empty list of supplemental credentials, and its servers are known to take one.
        return ts_credentials.encode(TSRemoteGuardCreds(TSRemoteGuardPackageCred(_PACKAGE, logon.encode()), ()))
