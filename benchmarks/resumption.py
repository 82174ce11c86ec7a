"""The CPU that a logon saves if it resumes TLS: the SSPI functions as the client, and a server that issues tickets.

    python -m benchmarks.resumption [--rounds N] [--json]

Two clients, which differ only in `Policy.tls_resumption`, log on in turns. A round's figure is the ratio of their
median logons' CPU. The server is acredssp's engine with a TLS context of the benchmark's own, which issues tickets and
accepts them; `acredssp.server_context` never does. Each time, the server is asked whether the session was resumed. A
third client has the policy too, with a usual server of acredssp: it shows what the policy costs if nothing can be
resumed.
"""

import argparse
import asyncio
import dataclasses
import json
import ssl
import statistics
import sys
import time

import acredssp
from acredssp import sspi
from acredssp.policy import MechanismChoice
from acredssp.status import SecurityStatus
from benchmarks.harness import Figure, Results, Row, Size, Watch, environment, ratios, settle
from benchmarks.peers import ALICE, NAME, Engine, KeyType, Setting

TARGET = f"TERMSRV/{NAME}"
TICKETS = 2
"""The tickets that a server sends, as many as OpenSSL and Schannel send in TLS 1.3."""
FLAGS = sspi.ISC_REQ.ALLOCATE_MEMORY | sspi.ISC_REQ.DELEGATE
SETTINGS: tuple[tuple[KeyType, str], ...] = (("rsa", "1.2"), ("rsa", "1.3"), ("ec", "1.2"), ("ec", "1.3"))


@dataclasses.dataclass(frozen=True, slots=True)
class Logon:
    """The figures of one logon."""

    client: float
    """Seconds of CPU."""
    server: float
    resumed: bool

    @property
    def both(self) -> float:
        return self.client + self.server


async def credentials(config: acredssp.ClientConfig) -> sspi.CredHandle:
    handle = sspi.CredHandle()
    await sspi.AcquireCredentialsHandle(
        None, "CREDSSP", sspi.SECPKG_CRED.OUTBOUND, pAuthData=config, phCredential=handle
    )
    return handle


async def log_on(outbound: sspi.CredHandle, server_config: acredssp.ServerConfig) -> Logon:
    """Log on once, in memory, message by message."""
    started = time.thread_time()
    client_time = 0.0
    context = server_config.new_context()
    server = Engine(context, lambda _event: ALICE)
    client, received, kept = None, None, b""
    handle, token = sspi.CtxtHandle(), sspi.SecBufferDesc([sspi.SecBuffer(sspi.SECBUFFER.TOKEN)])
    while not server.done:
        before = time.thread_time()
        status = await sspi.InitializeSecurityContext(
            outbound, client, TARGET, FLAGS, pInput=received, phNewContext=handle, pOutput=token
        )
        client_time += time.thread_time() - before
        assert status in (SecurityStatus.SEC_I_CONTINUE_NEEDED, SecurityStatus.SEC_E_OK), status
        flight = token.pBuffers[0].pvBuffer
        extra = received.pBuffers[1].cbBuffer if received and received.pBuffers[1].type == sspi.SECBUFFER.EXTRA else 0
        reply = kept[len(kept) - extra :] + (server.step(flight) if flight else b"")
        client, kept = handle, reply
        received = sspi.SecBufferDesc([sspi.SecBuffer(sspi.SECBUFFER.TOKEN, reply), sspi.SecBuffer()])
    resumed = context.tls.session_reused
    await sspi.DeleteSecurityContext(handle)
    return Logon(client_time, time.thread_time() - started - client_time, resumed)


async def rounds_of(kind: KeyType, version: str, rounds: int, handshakes: int) -> list[dict[str, Logon]]:
    """Return the median logons of each round: `full` and `resumed` with tickets, `off` and `refused` without."""
    setting = Setting.of(acredssp.self_signed([NAME], kind), version)
    without = setting.server_config()
    context = acredssp.server_context_from_pem(setting.policy, setting.certificate, setting.key)
    context.options &= ~ssl.OP_NO_TICKET
    context.num_tickets = TICKETS
    issuing = dataclasses.replace(without, ssl_context=context)
    config = setting.client_config(MechanismChoice.AUTO)
    # Neither client has a TLS context of its own, so the policy decides whether TLS resumes.
    off = dataclasses.replace(config, ssl_context=None)
    on = dataclasses.replace(off, policy=dataclasses.replace(off.policy, tls_resumption=True), ssl_context=None)
    kinds = {
        "full": (await credentials(off), issuing, False),
        "resumed": (await credentials(on), issuing, True),
        "off": (await credentials(off), without, False),
        "refused": (await credentials(on), without, False),
    }
    for outbound, server, _ in kinds.values():
        await log_on(outbound, server)  # from the second logon on, there is a session to resume
    found = []
    for _ in range(rounds + 1):
        settle()
        logons: dict[str, list[Logon]] = {name: [] for name in kinds}
        for _ in range(handshakes):
            for name, (outbound, server, resumes) in kinds.items():
                logon = await log_on(outbound, server)
                if logon.resumed is not resumes:
                    raise RuntimeError(f"{name}, {kind}, TLS {version}: resumed is {logon.resumed}")
                logons[name].append(logon)
        found.append({name: _median(each) for name, each in logons.items()})
    return found[1:]


def _median(logons: list[Logon]) -> Logon:
    return Logon(
        statistics.median(logon.client for logon in logons),
        statistics.median(logon.server for logon in logons),
        logons[0].resumed,
    )


def rows(rounds: list[dict[str, Logon]], kind: KeyType, version: str) -> list[Row]:
    name = {"rsa": "RSA-2048", "ec": "P-256"}[kind]
    both = [{what: logon.both for what, logon in each.items()} for each in rounds]
    client = [{what: logon.client for what, logon in each.items()} for each in rounds]
    saved = statistics.median(each["full"] - each["resumed"] for each in both)
    return [
        Row(
            key=f"resumption.{kind}.{version}.both",
            what=f"CPU of a logon that resumes TLS over one that does not, {name}, TLS {version}, both sides",
            figure=ratios(both, "resumed", "full"),
            note=f"saves {saved * 1e6:.0f} us",
        ),
        Row(
            key=f"resumption.{kind}.{version}.client",
            what=f"the same, {name}, TLS {version}, client alone",
            figure=ratios(client, "resumed", "full"),
        ),
        Row(
            key=f"resumption.{kind}.{version}.refused",
            what=f"the policy on over off where the server issues no tickets, {name}, TLS {version}, both sides",
            figure=ratios(both, "refused", "off"),
        ),
    ]


def measure(size: Size, results: Results, watch: Watch) -> None:
    for kind, version in SETTINGS:
        watch.step(f"resumption: {kind}, TLS {version}")
        found = asyncio.run(rounds_of(kind, version, size.rounds, size.handshakes))
        results.rows += rows(found, kind, version)
        watch.done()


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.resumption", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--handshakes", type=int, default=20, help="the number of handshakes of each kind in a round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: list[Row] = []
    for kind, version in SETTINGS:
        found += rows(asyncio.run(rounds_of(kind, version, options.rounds, options.handshakes)), kind, version)
    if options.json:
        print(json.dumps({"environment": environment(), "rows": [row.as_json() for row in found]}, indent=1))
    else:
        for row in found:
            figure: Figure = row.figure
            note = f"; {row.note}" if row.note else ""
            print(f"{row.what}: median {figure.median:.2f} ({figure.low:.2f} to {figure.high:.2f}){note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
