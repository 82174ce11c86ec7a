"""What is tested: a server or a client, reached over TCP or by calls."""

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Self

from acredssp.credentials import Password
from acredssp.testing.links import TIMEOUT, Link, SocketLink, StepLink, confirm, request

__all__ = ["ClientEndpoint", "ServerEndpoint"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerEndpoint:
    """A server that is tested.

    Attributes:
        connect: Makes a fresh connection, as far as TLS.
        account: An account that the server lets in.
    """

    connect: Callable[[], Link]
    account: Password

    @classmethod
    def tcp(cls, host: str, port: int, *, account: Password, rdp: bool = True) -> Self:
        """Return the endpoint of a server that listens.

        Args:
            host: Its host.
            port: Its port.
            account: An account that it lets in.
            rdp: Whether it negotiates as RDP does before TLS.
        """

        def connect() -> Link:
            link = SocketLink(socket.create_connection((host, port), TIMEOUT))
            with contextlib.ExitStack() as undone:
                undone.callback(link.close)
                if rdp:
                    request(link)
                undone.pop_all()
            return link

        return cls(connect=connect, account=account)

    @classmethod
    def steps(
        cls,
        new: Callable[[], Callable[[bytes], bytes | None]],
        *,
        account: Password,
        refusals: tuple[type[BaseException], ...] = (Exception,),
    ) -> Self:
        """Return the endpoint of a library's acceptor, which has TLS inside.

        Args:
            new: Makes a context, and returns its function from token to token.
            account: An account that it lets in.
            refusals: The exceptions by which it refuses a peer; any other is a defect.
        """
        return cls(connect=lambda: StepLink(new(), refusals), account=account)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClientEndpoint:
    """A client that is tested.

    Attributes:
        meet: Gives a context with the link on which the client has come, as far as TLS.
        account: The account with which the client logs on.
        succeeded: Whether the client said after its last connection that it is logged on; None where it cannot tell.
    """

    meet: Callable[[], AbstractContextManager[Link]]
    account: Password
    succeeded: Callable[[], bool | None] = lambda: None

    @classmethod
    def tcp(cls, run: Callable[[str, int], bool | None], *, account: Password, rdp: bool = True) -> Self:
        """Return the endpoint of a client that connects.

        Args:
            run: Runs the client against a host and port until it ends. Returns whether it logged on, None if it
                cannot tell. It is called in a thread.
            account: The account with which it logs on.
            rdp: Whether it negotiates as RDP does before TLS.
        """
        outcome: list[bool | None] = [None]

        @contextmanager
        def meet() -> Iterator[Link]:
            outcome[0] = None
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.settimeout(TIMEOUT)

                def main() -> None:
                    outcome[0] = run("127.0.0.1", listener.getsockname()[1])

                thread = threading.Thread(target=main, daemon=True)
                thread.start()
                sock, _ = listener.accept()
                with sock:
                    link = SocketLink(sock)
                    if rdp:
                        confirm(link)
                    yield link
            thread.join(TIMEOUT)

        return cls(meet=meet, account=account, succeeded=lambda: outcome[0])

    @classmethod
    def steps(
        cls,
        new: Callable[[], Callable[[bytes], bytes | None]],
        *,
        account: Password,
        refusals: tuple[type[BaseException], ...] = (Exception,),
    ) -> Self:
        """Return the endpoint of a library's initiator, which has TLS inside; see `ServerEndpoint.steps`."""

        @contextmanager
        def meet() -> Iterator[Link]:
            yield StepLink(new(), refusals)

        return cls(meet=meet, account=account)
