"""The defects as parametrised tests: derive a class, and give it a fixture `endpoint`."""

import pytest

from acredssp.errors import CredSSPError
from acredssp.testing import hostile_client, hostile_server
from acredssp.testing.endpoints import ClientEndpoint, ServerEndpoint
from acredssp.testing.hostile_client import SERVER_DEFECTS, HostileClient
from acredssp.testing.hostile_server import CLIENT_DEFECTS, HostileServer

__all__ = ["ClientDefects", "ServerDefects", "attack_client", "attack_server"]


def attack_server(endpoint: ServerEndpoint, defect: str) -> None:
    """Run one attack of `SERVER_DEFECTS`, and see that the server then still lets an honest client in.

    Raises:
        AssertionError: The server has the defect.
    """
    with HostileClient(endpoint) as client:
        SERVER_DEFECTS[defect](client)
    honest_logon_to(endpoint)


def honest_logon_to(endpoint: ServerEndpoint) -> None:
    """Log on with the account of the endpoint.

    Raises:
        AssertionError: The server does not let the client in.
    """
    with HostileClient(endpoint) as client:
        hostile_client.honest_logon(client)


def attack_client(endpoint: ClientEndpoint, defect: str) -> None:
    """Run one attack of `CLIENT_DEFECTS`.

    Raises:
        AssertionError: The client has the defect.
    """
    with endpoint.meet() as link:
        server = HostileServer(link, endpoint)
        try:
            what = CLIENT_DEFECTS[defect](server)
        except CredSSPError:
            what = defect  # the client's own answer was no longer what it should be
        server.expect_no_password(endpoint, what)


class ServerDefects:
    """Tests of a server. A class derived from this one has a fixture `endpoint` that returns a `ServerEndpoint`."""

    def test_an_honest_client_is_let_in(self, endpoint: ServerEndpoint) -> None:
        """The endpoint works, so that a refusal below means something."""
        honest_logon_to(endpoint)

    @pytest.mark.parametrize("defect", SERVER_DEFECTS)
    def test_a_hostile_client_is_refused(self, endpoint: ServerEndpoint, defect: str) -> None:
        """The server has none of the defects."""
        attack_server(endpoint, defect)


class ClientDefects:
    """Tests of a client. A class derived from this one has a fixture `endpoint` that returns a `ClientEndpoint`."""

    def test_an_honest_server_gets_the_password(self, endpoint: ClientEndpoint) -> None:
        """The endpoint works, so that a refusal below means something."""
        with endpoint.meet() as link:
            hostile_server.honest_logon(HostileServer(link, endpoint))

    @pytest.mark.parametrize("defect", CLIENT_DEFECTS)
    def test_a_hostile_server_gets_no_password(self, endpoint: ClientEndpoint, defect: str) -> None:
        """The client has none of the defects."""
        attack_client(endpoint, defect)
