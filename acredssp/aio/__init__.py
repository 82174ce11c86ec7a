"""The asyncio functions that connect, serve, upgrade and relay, with the types of their arguments and results.

`acredssp` itself has the same functions. Only this package, and the packages that use it, import asyncio.
"""

from acredssp.aio.answers import ClientAnswers, EventSource, Outcome, ServerAnswers, answer_events
from acredssp.aio.driver import Pending
from acredssp.aio.failures import FailureLimit
from acredssp.aio.first_pdus import ClientLeft, exchange_mcs, pass_until_answer
from acredssp.aio.limits import Place, Places
from acredssp.aio.logons import ServerLogon, ServerLogons
from acredssp.aio.probes import check_rdp, judge_server
from acredssp.aio.reasons import reason_of
from acredssp.aio.relaying import Recording, RecordingSink, RelayEnd, RelayResult, Streams, relay
from acredssp.aio.report import HandshakeHook, HandshakeOutcome, HandshakeReport, Sparingly
from acredssp.aio.server import CredSSPServer, ProtocolFactory
from acredssp.aio.sources import source_of
from acredssp.aio.streams import (
    ClientConnected,
    ConnectOptions,
    ListenOptions,
    create_connection,
    create_server,
    open_connection,
    start_credssp,
    start_credssp_streams,
    start_server,
    take_credentials,
)
from acredssp.aio.transport import SecureTransport
from acredssp.aio.winbind import WinbindOracle
from acredssp.aio.writing import write_if_open
from acredssp.logs import connection_id
from acredssp.wire.proxy_header import (
    ProxyAddress,
    ProxyCommand,
    ProxyEndpoint,
    ProxyFamily,
    ProxyHeader,
    ProxyTLS,
)

__all__ = [
    "ClientAnswers",
    "ClientConnected",
    "ClientLeft",
    "ConnectOptions",
    "CredSSPServer",
    "EventSource",
    "FailureLimit",
    "HandshakeHook",
    "HandshakeOutcome",
    "HandshakeReport",
    "ListenOptions",
    "Outcome",
    "Pending",
    "Place",
    "Places",
    "ProtocolFactory",
    "ProxyAddress",
    "ProxyCommand",
    "ProxyEndpoint",
    "ProxyFamily",
    "ProxyHeader",
    "ProxyTLS",
    "Recording",
    "RecordingSink",
    "RelayEnd",
    "RelayResult",
    "SecureTransport",
    "ServerAnswers",
    "ServerLogon",
    "ServerLogons",
    "Sparingly",
    "Streams",
    "WinbindOracle",
    "answer_events",
    "check_rdp",
    "connection_id",
    "create_connection",
    "create_server",
    "exchange_mcs",
    "judge_server",
    "open_connection",
    "pass_until_answer",
    "reason_of",
    "relay",
    "source_of",
    "start_credssp",
    "start_credssp_streams",
    "start_server",
    "take_credentials",
    "write_if_open",
]
