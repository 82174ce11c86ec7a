"""What the commands for services over HTTP, such as WinRM, have in common."""

import contextlib
from collections.abc import Iterator

import typer

from acredssp.arguments import expect_host_name, expect_service_name
from acredssp.cli import arguments
from acredssp.cli.arguments import Service
from acredssp.delegation import DelegationPolicy, SPNList

__all__ = ["extra_of_services", "name_of_service", "to_this_service"]


@contextlib.contextmanager
def extra_of_services() -> Iterator[None]:
    """Turn a missing extra into one line."""
    try:
        yield
    except ImportError as error:
        missing = f", since {error.name} is missing" if error.name else ""
        raise typer.BadParameter(f"this command needs more packages{missing}: pip install 'acredssp[winrm]'") from None


def name_of_service(service: Service, server_name: str | None, spn: str | None) -> str:
    """Return the name of the service in certificates and principals."""
    with arguments.values():
        expect_host_name("URL", service.host)
        if server_name is not None:
            expect_host_name("--server-name", server_name)
        if spn is not None:
            expect_service_name("--spn", spn)
    return server_name or service.host


def to_this_service(spn: str) -> DelegationPolicy:
    """Return the policy of somebody who names the one service that is to get the password."""
    this = SPNList.of(spn)
    return DelegationPolicy(allow_fresh_credentials=this, allow_fresh_credentials_when_ntlm_only=this)
