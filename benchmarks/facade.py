"""The cost that the SSPI functions add to the engine: CPU of a whole handshake, both sides, as a ratio within one run.

    python -m benchmarks.facade [--rounds N] [--instructions] [--json]

The benchmark drives the engine by hand and the SSPI functions by their calling loop, with a whole flight in each call.
Handshakes of the two kinds alternate, with the same credentials, certificates, policy and trust. Each kind has TLS
contexts of its own, made in the same way: the contexts of the SSPI functions watch for certificate requests, which is
their cost and not the engine's. A round's figure is the ratio of the median handshakes, which one disturbed handshake
does not change. `--instructions` counts instructions instead (`instructions.count`), which no load on the
machine changes. The goal is at most 1.10.
"""

import argparse
import asyncio
import gc
import json
import os
import pathlib
import platform
import ssl
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal

import cryptography

import acredssp
from acredssp.events import Delegate, Event, JudgeCertificate, SecurityContext, StepResult
from acredssp.sspi import (
    ASC_REQ_ALLOCATE_MEMORY,
    ISC_REQ_ALLOCATE_MEMORY,
    ISC_REQ_DELEGATE,
    SECBUFFER_TOKEN,
    SECPKG_CRED_INBOUND,
    SECPKG_CRED_OUTBOUND,
    AcceptSecurityContext,
    AcquireCredentialsHandle,
    CredHandle,
    CtxtHandle,
    InitializeSecurityContext,
    SecBuffer,
    SecBufferDesc,
)
from acredssp.status import SecurityStatus

GOAL = 1.10
HANDSHAKES = 60
"""The handshakes of each kind in a round."""
WARM, COUNTED = 4, 20
"""The handshakes of each kind before those whose instructions count, and those that count."""

ALICE = acredssp.Password("Passw0rd!", "alice", "CONTOSO")


Pem = tuple[bytes, bytes]
KeyType = Literal["rsa", "ec"]


def configurations(pem: Pem) -> tuple[acredssp.ClientConfig, acredssp.ServerConfig]:
    """Make both sides' configurations; the client pins the server's key."""
    certificate, key = pem
    context = acredssp.server_context_from_pem(acredssp.Policy(), certificate, key)
    pin = acredssp.pin_of(ssl.PEM_cert_to_DER_cert(certificate.decode()))
    client = acredssp.ClientConfig(authenticate=ALICE, trust=acredssp.Trust.pinned(pin))
    return client, acredssp.ServerConfig(ssl_context=context, lookup=lambda _request: ALICE)


def by_hand(client_config: acredssp.ClientConfig, server_config: acredssp.ServerConfig) -> Callable[[], None]:
    """Return a function that does one handshake of the engine."""

    def answer(event: Event) -> Any:
        if isinstance(event, JudgeCertificate):
            return client_config.judge(event.chain, "localhost")
        if isinstance(event, Delegate):
            return client_config.decide(event)
        return ALICE

    def advance(context: SecurityContext, data: bytes) -> StepResult:
        result = context.step(data)
        while result.event is not None:
            result = context.resume(result.event, answer(result.event))
        return result

    def handshake() -> None:
        client = client_config.new_context(server_hostname="localhost", spn="TERMSRV/localhost")
        server = server_config.new_context()
        result = advance(client, b"")
        while True:
            reply = advance(server, result.output)
            if reply.status is SecurityStatus.SEC_E_OK:
                return
            result = advance(client, reply.output)

    return handshake


async def by_sspi(
    client_config: acredssp.ClientConfig, server_config: acredssp.ServerConfig
) -> Callable[[], Coroutine[None, None, None]]:
    """Return a function that does one handshake of the SSPI functions."""
    outbound, inbound = CredHandle(), CredHandle()
    for use, data, handle in (
        (SECPKG_CRED_OUTBOUND, client_config, outbound),
        (SECPKG_CRED_INBOUND, server_config, inbound),
    ):
        await AcquireCredentialsHandle(None, "CREDSSP", use, pAuthData=data, phCredential=handle)
    flags = ISC_REQ_ALLOCATE_MEMORY | ISC_REQ_DELEGATE

    async def handshake() -> None:
        client, server = CtxtHandle(), CtxtHandle()
        token = SecBuffer(SECBUFFER_TOKEN)
        output = SecBufferDesc([token])
        await InitializeSecurityContext(outbound, None, "TERMSRV/localhost", flags, phNewContext=client, pOutput=output)
        context = None
        while True:
            received = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, token.pvBuffer), SecBuffer()])
            status = await AcceptSecurityContext(
                inbound, context, received, ASC_REQ_ALLOCATE_MEMORY, phNewContext=server, pOutput=output
            )
            context = server
            if status is SecurityStatus.SEC_E_OK:
                return
            received = SecBufferDesc([SecBuffer(SECBUFFER_TOKEN, token.pvBuffer), SecBuffer()])
            await InitializeSecurityContext(
                outbound, client, "TERMSRV/localhost", flags, pInput=received, pOutput=output
            )

    return handshake


async def measure(pem: Pem, rounds: int) -> list[float]:
    """Return the ratio of each round."""
    engine, functions = by_hand(*configurations(pem)), await by_sspi(*configurations(pem))
    ratios = []
    for _ in range(rounds + 1):
        by_engine, by_functions = [], []
        for _ in range(HANDSHAKES):
            started = time.thread_time()
            engine()
            between = time.thread_time()
            await functions()
            by_functions.append(time.thread_time() - between)
            by_engine.append(between - started)
        ratios.append(statistics.median(by_functions) / statistics.median(by_engine))
    return ratios[1:]  # the first round warms both up


async def perform(pem: Pem, handshakes: int, names: Sequence[str]) -> None:
    """Do what valgrind watches: for each kind, all that comes first, and what counts."""
    engine, functions = by_hand(*configurations(pem)), await by_sspi(*configurations(pem))

    async def run(name: str, count: int) -> None:
        for _ in range(count):
            if name == "engine":
                engine()
            else:
                await functions()

    for name in names:
        await run(name, WARM)
        gc.collect()
        os.getloadavg()
        await run(name, handshakes)
        os.getloadavg()


def counted(kind: KeyType) -> float:
    """Return the ratio of instructions. Both get the same key, since making keys varies in cost."""
    from benchmarks import instructions  # noqa: PLC0415 - the process under valgrind needs none of its imports

    command = [sys.executable, "-m", "benchmarks.facade", "--perform"]
    engine, functions = instructions.count(
        ["engine", "sspi"], kind, options=["--cache-sim=no"], events=("Ir",), handshakes=COUNTED, command=command
    ).values()
    return functions.whole[0] / engine.whole[0]


def main() -> int:
    """Measure, print, and say whether the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--perform", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.perform:
        folder, handshakes, *names = options.perform
        pem = tuple(pathlib.Path(folder, name).read_bytes() for name in ("certificate", "key"))
        asyncio.run(perform(pem, int(handshakes), names))
        return 0
    kinds: tuple[KeyType, ...] = ("rsa", "ec")
    if options.instructions:
        rows = {kind: [counted(kind)] for kind in kinds}
    else:
        pems = {kind: acredssp.self_signed(["localhost"], kind) for kind in kinds}
        rows = {kind: asyncio.run(measure(pem, options.rounds)) for kind, pem in pems.items()}
    medians = {kind: statistics.median(ratios) for kind, ratios in rows.items()}
    if options.json:
        json.dump({"goal": GOAL, "ratios": rows, "medians": medians, "environment": environment()}, sys.stdout)
    else:
        print(", ".join(f"{name} {version}" for name, version in environment().items()))
        for kind, ratios in rows.items():
            spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
            print(f"{kind:4} sspi / engine: median {medians[kind]:.3f} ({spread}), goal {GOAL:.2f}")
    return 0 if max(medians.values()) <= GOAL else 1


def environment() -> dict[str, str]:
    """Return the versions for which the figures hold."""
    return {
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION.split()[1],
        "cryptography": cryptography.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
