"""The time of a verdict on a server's certificate, beside cryptography's own verifier for the web.

    python -m benchmarks.verdicts [--rounds N]

Both read the chain from DER, find the path and check the name. They take turns. A figure is the median of its rounds,
and a ratio is the median of the rounds' ratios.
"""

import argparse
import datetime as dt
import statistics
import time
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification

import acredssp

NAME = "host.example"
NOW = dt.datetime.now(dt.UTC)
VERDICTS = 100
"""The verdicts of each kind in a round."""
KEYS: dict[str, Callable[[], rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey]] = {
    "RSA-2048": lambda: rsa.generate_private_key(65537, 2048),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
}


def make_chain(kind: str, intermediates: int) -> tuple[x509.Certificate, list[bytes]]:
    """Return a root, and a chain below it as a server sends it."""
    key, issuer = KEYS[kind](), "root"
    root = _certificate(issuer, issuer, key, key, authority=True)
    chain: list[bytes] = []
    for number in range(intermediates + 1):
        own, name = KEYS[kind](), f"level {number}"
        made = _certificate(name, issuer, own, key, authority=number < intermediates)
        chain.insert(0, made.public_bytes(Encoding.DER))
        key, issuer = own, name
    return root, chain


def _certificate(subject, issuer, key, signer, *, authority) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=1))
        .not_valid_after(NOW + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if authority:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        return builder.add_extension(usage, critical=True).sign(signer, hashes.SHA256())
    usages = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
    names = x509.SubjectAlternativeName([x509.DNSName(NAME)])
    return (
        builder.add_extension(usages, critical=False).add_extension(names, critical=False).sign(signer, hashes.SHA256())
    )


def compare(root: x509.Certificate, chain: list[bytes], rounds: int) -> tuple[float, float]:
    """Return the microseconds of a verdict, and the ratio to a verdict of cryptography."""
    trust = acredssp.Trust(authorities=(root,))
    store = verification.Store([root])

    def ours() -> None:
        assert trust.judge(chain, NAME, NOW).trusted

    def theirs() -> None:
        leaf, *others = [x509.load_der_x509_certificate(link) for link in chain]
        policy = verification.PolicyBuilder().store(store).time(NOW)
        policy.build_server_verifier(x509.DNSName(NAME)).verify(leaf, others)

    pairs = [(_time(ours), _time(theirs)) for _ in range(rounds + 1)][1:]
    return statistics.median(own for own, _ in pairs), statistics.median(own / other for own, other in pairs)


def _time(verdict: Callable[[], None]) -> float:
    start = time.perf_counter()
    for _ in range(VERDICTS):
        verdict()
    return (time.perf_counter() - start) / VERDICTS * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.verdicts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print(f"{'chain':36}{'us':>8}{'x cryptography':>16}")
    for kind in KEYS:
        for intermediates in (0, 1, 2):
            own, ratio = compare(*make_chain(kind, intermediates), rounds)
            print(f"{f'{kind}, {intermediates} intermediates':36}{own:8.1f}{ratio:16.2f}")


if __name__ == "__main__":
    main()
