"""The defects as parametrised tests: derive a class, and give it a fixture `endpoint`."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar

import pytest

from acredssp.errors import CredSSPError
from acredssp.policy import MechanismChoice
from acredssp.testing import client_attacks, server_attacks
from acredssp.testing.client_attacks import CLIENT_DEFECTS, NTLM_ONLY_CLIENT_DEFECTS, client_defects
from acredssp.testing.endpoints import ClientEndpoint, ServerEndpoint
from acredssp.testing.hostile_client import HostileClient
from acredssp.testing.hostile_server import HostileServer
from acredssp.testing.server_attacks import NTLM_ONLY_SERVER_DEFECTS, SERVER_DEFECTS, server_defects

__all__ = ["ClientDefects", "ServerDefects", "attack_client", "attack_server"]

_NTLM = MechanismChoice.NTLM


def attack_server(endpoint: ServerEndpoint, defect: str, mechanism: MechanismChoice = _NTLM) -> None:
    """Run one attack of `SERVER_DEFECTS`, and see that the server then still lets an honest client in.

    Args:
        endpoint: The server.
        defect: The attack's name.
        mechanism: NTLM, KERBEROS (in SPNEGO) or RAW_KERBEROS. Kerberos needs the realm in this process' environment.

    Raises:
        AssertionError: The server has the defect.
        ValueError: There is no such attack by this mechanism.
    """
    if defect not in server_defects(mechanism):
        raise _inapplicable(defect, mechanism, NTLM_ONLY_SERVER_DEFECTS, SERVER_DEFECTS)
    with _named(defect, SERVER_DEFECTS[defect]), HostileClient(endpoint, mechanism) as client:
        SERVER_DEFECTS[defect](client)
    honest_logon_to(endpoint, mechanism)


def honest_logon_to(endpoint: ServerEndpoint, mechanism: MechanismChoice = _NTLM) -> None:
    """Log on with the account of the endpoint.

    Raises:
        AssertionError: The server does not let the client in.
    """
    with HostileClient(endpoint, mechanism) as client:
        server_attacks.honest_logon(client)


def attack_client(endpoint: ClientEndpoint, defect: str, mechanism: MechanismChoice = _NTLM) -> None:
    """Run one attack of `CLIENT_DEFECTS`.

    Args:
        endpoint: The client.
        defect: The attack's name.
        mechanism: NTLM, KERBEROS (in SPNEGO) or RAW_KERBEROS: what the client begins with.

    Raises:
        AssertionError: The client has the defect.
        ValueError: There is no such attack by this mechanism.
    """
    if defect not in client_defects(mechanism):
        raise _inapplicable(defect, mechanism, NTLM_ONLY_CLIENT_DEFECTS, CLIENT_DEFECTS)
    with _named(defect, CLIENT_DEFECTS[defect]), endpoint.meet() as link:
        server = HostileServer(link, endpoint, mechanism=mechanism)
        try:
            what = CLIENT_DEFECTS[defect](server)
        except CredSSPError:
            what = defect  # the client's own answer was no longer what it should be
        server.expect_no_password(endpoint, what)


@contextlib.contextmanager
def _named(defect: str, attack: Callable[..., object]) -> Iterator[None]:
    """Say below a failure which attack it is, and what the attack sends."""
    try:
        yield
    except AssertionError as error:
        what = " ".join((attack.__doc__ or "").split())
        error.add_note(f"the attack is {defect!r}" + (f": {what}" if what else ""))
        raise


def _inapplicable(
    defect: str, mechanism: MechanismChoice, reasons: Mapping[str, str], every: Iterable[str]
) -> ValueError:
    if defect not in every:
        return ValueError(f"defect: expected one of {', '.join(every)}; got {defect}")
    reason = reasons.get(defect) or "it is one of kerberos" + (", and in spnego" if mechanism.kerberos else "")
    return ValueError(f"the attack {defect} cannot be made by {mechanism}: {reason}")


class _Suite:
    mechanism: ClassVar[MechanismChoice] = MechanismChoice.NTLM
    """The mechanism of the attacks: NTLM, KERBEROS (in SPNEGO) or RAW_KERBEROS."""

    @classmethod
    def _attacks(cls) -> Iterable[str]:
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make a test of each attack that can be made by the class' mechanism."""
        if "defect" in metafunc.fixturenames:
            metafunc.parametrize("defect", list(self._attacks()))


class ServerDefects(_Suite):
    """Tests of a server. A class derived from this one has a fixture `endpoint` that returns a `ServerEndpoint`.

    Attributes:
        mechanism: The mechanism of the attacks: NTLM unless it is set, KERBEROS (in SPNEGO) or RAW_KERBEROS.
    """

    @classmethod
    def _attacks(cls) -> Iterable[str]:
        return server_defects(cls.mechanism)

    def test_an_honest_client_is_let_in(self, endpoint: ServerEndpoint) -> None:
        """The endpoint works, so that a refusal below means something."""
        honest_logon_to(endpoint, self.mechanism)

    def test_a_hostile_client_is_refused(self, endpoint: ServerEndpoint, defect: str) -> None:
        """The server has none of the defects."""
        attack_server(endpoint, defect, self.mechanism)


class ClientDefects(_Suite):
    """Tests of a client. A class derived from this one has a fixture `endpoint` that returns a `ClientEndpoint`.

    Attributes:
        mechanism: The mechanism of the attacks: NTLM unless it is set, KERBEROS (in SPNEGO) or RAW_KERBEROS.
    """

    @classmethod
    def _attacks(cls) -> Iterable[str]:
        return client_defects(cls.mechanism)

    def test_an_honest_server_gets_the_password(self, endpoint: ClientEndpoint) -> None:
        """The endpoint works, so that a refusal below means something."""
        with endpoint.meet() as link:
            client_attacks.honest_logon(HostileServer(link, endpoint, mechanism=self.mechanism))

    def test_a_hostile_server_gets_no_password(self, endpoint: ClientEndpoint, defect: str) -> None:
        """The client has none of the defects."""
        attack_client(endpoint, defect, self.mechanism)
