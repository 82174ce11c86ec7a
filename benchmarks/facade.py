"""What the SSPI functions add to the engine: CPU of a whole handshake, both sides, as a ratio of the same run.

    python benchmarks/facade.py [--rounds N] [--json]

The engine is driven by hand and the SSPI functions by their calling loop, with the same credentials, certificates and
TLS contexts, one after the other in each round. The goal is at most 1.10.
"""

import argparse
import asyncio
import json
import platform
import ssl
import statistics
import sys
import time
from collections.abc import Callable, Coroutine

import cryptography

import acredssp
from acredssp import sspi

GOAL = 1.10
HANDSHAKES = 25
"""A round of each: long enough for the thread's clock, short enough that a disturbance hits both."""

ALICE = acredssp.Password("Passw0rd!", "alice", "CONTOSO")


def configurations(key_type: str) -> tuple[acredssp.ClientConfig, acredssp.ServerConfig]:
    """Make both sides' configurations; the client pins the server's key."""
    certificate, key = acredssp.self_signed(["localhost"], key_type)
    context = acredssp.server_context_from_pem(acredssp.Policy(), certificate, key)
    pin = acredssp.pin_of(ssl.PEM_cert_to_DER_cert(certificate.decode()))
    client = acredssp.ClientConfig(authenticate=ALICE, trust=acredssp.Trust.pinned(pin))
    return client, acredssp.ServerConfig(ssl_context=context, lookup=lambda _request: ALICE)


def by_hand(client_config: acredssp.ClientConfig, server_config: acredssp.ServerConfig) -> Callable[[], None]:
    """Return one handshake of the engine."""

    def answer(event: acredssp.Event) -> object:
        if isinstance(event, acredssp.JudgeCertificate):
            return client_config.judge(event.chain, "localhost")
        return ALICE

    def advance(context: acredssp.SecurityContext, data: bytes) -> acredssp.StepResult:
        result = context.step(data)
        while result.event is not None:
            result = context.resume(answer(result.event))
        return result

    def handshake() -> None:
        client = client_config.new_context(server_hostname="localhost", spn="TERMSRV/localhost")
        server = server_config.new_context()
        result = advance(client, b"")
        while True:
            reply = advance(server, result.output)
            if reply.status is acredssp.SecurityStatus.SEC_E_OK:
                return
            result = advance(client, reply.output)

    return handshake


async def by_sspi(
    client_config: acredssp.ClientConfig, server_config: acredssp.ServerConfig
) -> Callable[[], Coroutine[None, None, None]]:
    """Return one handshake of the SSPI functions."""
    outbound, inbound = sspi.CredHandle(), sspi.CredHandle()
    for use, data, handle in (
        (sspi.SECPKG_CRED.OUTBOUND, client_config, outbound),
        (sspi.SECPKG_CRED.INBOUND, server_config, inbound),
    ):
        await sspi.AcquireCredentialsHandle(None, "CREDSSP", use, pAuthData=data, phCredential=handle)
    flags = sspi.ISC_REQ.ALLOCATE_MEMORY | sspi.ISC_REQ.DELEGATE

    def buffers(data: bytes) -> sspi.SecBufferDesc:
        return sspi.SecBufferDesc([sspi.SecBuffer(sspi.SECBUFFER.TOKEN, data), sspi.SecBuffer()])

    async def handshake() -> None:
        client, server = sspi.CtxtHandle(), sspi.CtxtHandle()
        token = sspi.SecBufferDesc([sspi.SecBuffer(sspi.SECBUFFER.TOKEN)])
        await sspi.InitializeSecurityContext(
            outbound, None, "TERMSRV/localhost", flags, phNewContext=client, pOutput=token
        )
        context = None
        while True:
            received = buffers(token.pBuffers[0].pvBuffer)
            status = await sspi.AcceptSecurityContext(
                inbound, context, received, sspi.ASC_REQ.ALLOCATE_MEMORY, phNewContext=server, pOutput=token
            )
            context = server
            if status is acredssp.SecurityStatus.SEC_E_OK:
                return
            received = buffers(token.pBuffers[0].pvBuffer)
            await sspi.InitializeSecurityContext(
                outbound, client, "TERMSRV/localhost", flags, pInput=received, pOutput=token
            )

    return handshake


async def measure(key_type: str, rounds: int) -> list[float]:
    """Return the ratio of each round."""
    configs = configurations(key_type)
    engine, functions = by_hand(*configs), await by_sspi(*configs)
    ratios = []
    for _ in range(rounds + 1):
        started = time.thread_time()
        for _ in range(HANDSHAKES):
            engine()
        between = time.thread_time()
        for _ in range(HANDSHAKES):
            await functions()
        ratios.append((time.thread_time() - between) / (between - started))
    return ratios[1:]  # the first round warms both up


def main() -> int:
    """Measure, print, and say whether the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = {key_type: asyncio.run(measure(key_type, options.rounds)) for key_type in ("rsa", "ec")}
    medians = {key_type: statistics.median(ratios) for key_type, ratios in rows.items()}
    if options.json:
        json.dump({"goal": GOAL, "ratios": rows, "medians": medians, "environment": environment()}, sys.stdout)
    else:
        print(", ".join(f"{name} {version}" for name, version in environment().items()))
        for key_type, ratios in rows.items():
            low, high = min(ratios), max(ratios)
            print(
                f"{key_type:4} sspi / engine: median {medians[key_type]:.3f} ({low:.3f} to {high:.3f}), goal {GOAL:.2f}"
            )
    return 0 if max(medians.values()) <= GOAL else 1


def environment() -> dict[str, str]:
    """What the figures hold for."""
    return {
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION.split()[1],
        "cryptography": cryptography.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
