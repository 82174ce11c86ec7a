"""Tests for other implementations of CredSSP: hostile peers for both sides, peers that behave, and the known defects.

`ServerDefects` and `ClientDefects` are test classes of pytest for any endpoint: a host and port, or a library's
function from token to token, by NTLM or by Kerberos. `HostileClient` and `HostileServer` give a test every control over
one connection. `acredssp.testing.plugin` has the fixtures. docs/testing.md has examples, and what was found in others.
"""

from acredssp.testing.client_attacks import CLIENT_DEFECTS, NTLM_ONLY_CLIENT_DEFECTS, client_defects
from acredssp.testing.endpoints import ClientEndpoint, ServerEndpoint
from acredssp.testing.fakes import FakeServer, log_on
from acredssp.testing.hostile_client import HostileClient
from acredssp.testing.hostile_server import HostileServer
from acredssp.testing.kdc import Realm, running_realm
from acredssp.testing.links import Channel, Crashed, Link, SocketLink, StepLink
from acredssp.testing.server_attacks import NTLM_ONLY_SERVER_DEFECTS, SERVER_DEFECTS, server_defects
from acredssp.testing.suites import ClientDefects, ServerDefects, attack_client, attack_server

__all__ = [
    "CLIENT_DEFECTS",
    "NTLM_ONLY_CLIENT_DEFECTS",
    "NTLM_ONLY_SERVER_DEFECTS",
    "SERVER_DEFECTS",
    "Channel",
    "ClientDefects",
    "ClientEndpoint",
    "Crashed",
    "FakeServer",
    "HostileClient",
    "HostileServer",
    "Link",
    "Realm",
    "ServerDefects",
    "ServerEndpoint",
    "SocketLink",
    "StepLink",
    "attack_client",
    "attack_server",
    "client_defects",
    "log_on",
    "running_realm",
    "server_defects",
]
