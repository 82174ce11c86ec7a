"""pyspnego's CredSSP in memory, as its documentation shows it and as it is fastest.

gssapi is kept out of the process: otherwise pyspnego would ask a KDC first, even with a password.
"""

# ruff: noqa: E402 - the imports that follow must find gssapi missing

import sys

for _module in ("gssapi", "krb5"):
    sys.modules[_module] = None  # before anybody imports spnego

import contextlib
import os
import pathlib
import ssl
import tempfile
from collections.abc import Iterator
from typing import Literal

import spnego
import spnego._credssp
import spnego.tls

from acredssp.md4 import md4
from benchmarks.peers import DOMAIN, NAME, PASSWORD, Peer, Setting

Variant = Literal["default", "shared", "tuned"]
"""`default` makes TLS contexts for each connection, with two tickets. The others have one context on each side and no
tickets: `shared` with a password, and `tuned` with NT hashes on both sides."""

VARIANTS: tuple[Variant, ...] = ("tuned", "shared", "default")

_NT_HASH = md4(PASSWORD.encode("utf-16-le")).hex()


class _Side:
    __slots__ = ("_context",)

    def __init__(self, context: spnego.ContextProxy) -> None:
        self._context = context

    def step(self, data: bytes) -> bytes:
        return self._context.step(data) or b""

    @property
    def done(self) -> bool:
        return self._context.complete


def peer(setting: Setting, variant: Variant) -> Peer:
    """Return the pyspnego peers, with an RSA certificate, since pyspnego takes no other."""
    public_key = spnego.tls.get_certificate_public_key(ssl.PEM_cert_to_DER_cert(setting.certificate.decode()))
    spnego._credssp._X509_CERTIFICATE = (setting.certificate, setting.key, public_key)  # noqa: SLF001 - for `default`
    client_tls, server_tls = {}, {}
    if variant != "default":
        client_tls["credssp_tls_context"] = spnego.tls.CredSSPTLSContext(setting.client_context)
        server_tls["credssp_tls_context"] = spnego.tls.CredSSPTLSContext(setting.server_context, public_key)
    user = f"{DOMAIN}\\{'alice' if variant == 'tuned' else 'bob'}"
    credentials = [spnego.Password(user, PASSWORD)]
    if variant == "tuned":
        credentials.insert(0, spnego.NTLMHash(user, nt_hash=_NT_HASH))
    target = {"hostname": NAME, "service": "TERMSRV", "protocol": "credssp"}
    return Peer(
        lambda: _Side(spnego.client(credentials, **target, **client_tls)),
        lambda: _Side(spnego.server(**target, **server_tls)),
    )


@contextlib.contextmanager
def users() -> Iterator[None]:
    """Give pyspnego's servers their accounts for as long as the block runs: bob by password, alice by hash."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "users")
        no_lm_hash = "0" * 32
        path.write_text(
            f"{DOMAIN}:bob:{PASSWORD}\n{DOMAIN}\\alice:1000:{no_lm_hash}:{_NT_HASH}:[U]:LCT-1589398321\n", "utf-8"
        )
        os.environ["NTLM_USER_FILE"] = str(path)
        try:
            yield
        finally:
            del os.environ["NTLM_USER_FILE"]
