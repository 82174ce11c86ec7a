"""What is tested: a server or a client, reached over TCP or by calls."""

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Self

from acredssp.credentials import Keytab, Password
from acredssp.testing.links import QUIET, TIMEOUT, Link, SocketLink, StepLink, confirm, request

__all__ = ["ClientEndpoint", "ServerEndpoint"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerEndpoint:
    """A server that is tested.

    Attributes:
        connect: Makes a fresh connection, as far as TLS.
        account: An account that the server lets in. For attacks by Kerberos its domain is the realm.
        spn: The server's principal, for attacks by Kerberos.
    """

    connect: Callable[[], Link]
    account: Password
    spn: str = "TERMSRV/localhost"

    @classmethod
    def tcp(  # noqa: PLR0913 - each is a fact of its own
        cls,
        host: str,
        port: int,
        *,
        account: Password,
        spn: str = "TERMSRV/localhost",
        rdp: bool = True,
        quiet: float = QUIET,
    ) -> Self:
        """Return the endpoint of a server that listens.

        Args:
            host: Its host.
            port: Its port.
            account: An account that it lets in. For attacks by Kerberos its domain is the realm.
            spn: Its principal, for attacks by Kerberos.
            rdp: Whether it negotiates as RDP does before TLS.
            quiet: Seconds that an attacked server may say nothing before the attacker ends its side of the connection.
        """

        def connect() -> Link:
            link = SocketLink(socket.create_connection((host, port), TIMEOUT), quiet)
            with contextlib.ExitStack() as undone:
                undone.callback(link.close)
                if rdp:
                    request(link)
                undone.pop_all()
            return link

        return cls(connect=connect, account=account, spn=spn)

    @classmethod
    def steps(
        cls,
        new: Callable[[], Callable[[bytes], bytes | None]],
        *,
        account: Password,
        spn: str = "TERMSRV/localhost",
        refusals: tuple[type[BaseException], ...] = (Exception,),
    ) -> Self:
        """Return the endpoint of a library's acceptor, which has TLS inside.

        Args:
            new: Makes a context, and returns its function from token to token.
            account: An account that it lets in. For attacks by Kerberos its domain is the realm.
            spn: Its principal, for attacks by Kerberos.
            refusals: The exceptions by which it refuses a peer; any other is a defect.
        """
        return cls(connect=lambda: StepLink(new(), refusals), account=account, spn=spn)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClientEndpoint:
    """A client that is tested.

    Attributes:
        meet: Gives a context with the link on which the client has come, as far as TLS.
        account: The account with which the client logs on.
        succeeded: Waits until the client has ended, and returns whether it says that it was logged on; None where it
            cannot tell.
        keytab: The key of the service that the client asks a ticket for; None where it logs on by NTLM.
    """

    meet: Callable[[], AbstractContextManager[Link]]
    account: Password
    succeeded: Callable[[], bool | None] = lambda: None
    keytab: Keytab | None = None

    @classmethod
    def tcp(
        cls,
        run: Callable[[str, int], bool | None],
        *,
        account: Password,
        keytab: Keytab | None = None,
        rdp: bool = True,
        quiet: float = QUIET,
    ) -> Self:
        """Return the endpoint of a client that connects.

        Args:
            run: Runs the client against a host and port until it ends. Returns whether it logged on, None if it
                cannot tell. It is called in a thread.
            account: The account with which it logs on.
            keytab: The key of the service that it asks a ticket for, such as TERMSRV/127.0.0.1; None for NTLM.
            rdp: Whether it negotiates as RDP does before TLS.
            quiet: Seconds that an attacked client may say nothing before the attacker ends its side of the connection.
        """
        runs: list[tuple[threading.Thread, list[bool | None]]] = []

        @contextmanager
        def meet() -> Iterator[Link]:
            outcome: list[bool | None] = []
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.settimeout(TIMEOUT)
                port = listener.getsockname()[1]
                thread = threading.Thread(target=lambda: outcome.append(run("127.0.0.1", port)), daemon=True)
                runs[:] = [(thread, outcome)]
                thread.start()
                sock, _ = listener.accept()
            try:  # without the listener, a client that connects again is refused, and ends
                with sock:
                    link = SocketLink(sock, quiet)
                    if rdp:
                        confirm(link)
                    yield link
            finally:
                thread.join(TIMEOUT)

        def succeeded() -> bool | None:
            """Wait for the client's end, and return what it says."""
            for thread, outcome in runs:
                thread.join(TIMEOUT)
                return outcome[0] if outcome else None
            return None

        return cls(meet=meet, account=account, succeeded=succeeded, keytab=keytab)

    @classmethod
    def steps(
        cls,
        new: Callable[[], Callable[[bytes], bytes | None]],
        *,
        account: Password,
        keytab: Keytab | None = None,
        refusals: tuple[type[BaseException], ...] = (Exception,),
    ) -> Self:
        """Return the endpoint of a library's initiator, which has TLS inside; see `tcp` and `ServerEndpoint.steps`."""

        @contextmanager
        def meet() -> Iterator[Link]:
            yield StepLink(new(), refusals)

        return cls(meet=meet, account=account, keytab=keytab)
