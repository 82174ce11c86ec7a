"""Files for mstsc and other clients (`.rdp`), signed where there is a key.

The format of the signature is known from what rdpsign.exe writes, and from the programs of others that write the same
(https://github.com/nfedera/rdpsign). The lines of `signscope` are signed in its order, then the line `signscope` and a
NUL, all in UTF-16-LE with CR LF: a detached PKCS#7 without attributes. In the file it lies behind a header of 12 bytes,
in base64. OpenSSL takes these signatures; mstsc has not been tried.
"""

import base64
import struct
from collections.abc import Sequence
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import pkcs7

__all__ = ["FileSigner", "rdp_file"]

_SCOPE: Final = {
    "full address:s": "Full Address",
    "alternate full address:s": "Alternate Full Address",
    "enablecredsspsupport:i": "EnableCredSspSupport",
    "prompt for credentials:i": "Prompt For Credentials",
    "authentication level:i": "Authentication Level",
    "loadbalanceinfo:s": "LoadBalanceInfo",
}
"""The signed lines of ours by the names that `signscope` has for them, in its order. `username` cannot be signed."""
_HEADER: Final = struct.Struct("<III")
_OPTIONS: Final = [
    pkcs7.PKCS7Options.DetachedSignature,
    pkcs7.PKCS7Options.Binary,
    pkcs7.PKCS7Options.NoAttributes,
]


class FileSigner:
    """Signs .rdp files.

    Args:
        chain: The signer's certificate, and those above it.
        key: Its key.
    """

    def __init__(self, chain: Sequence[x509.Certificate], key: RSAPrivateKey) -> None:
        self._chain = chain
        self._key = key

    @classmethod
    def from_pem(cls, chain: bytes, key: bytes) -> Self:
        """Read a signer's chain and its key, which has no password.

        Raises:
            ValueError: They cannot be read, do not belong together, or the key is no RSA key.
        """
        try:
            certificates = x509.load_pem_x509_certificates(chain)
            private = serialization.load_pem_private_key(key, None)
        except (ValueError, TypeError):
            raise ValueError("expected certificates in PEM and a private key in PEM without a password") from None
        if not isinstance(private, RSAPrivateKey):
            raise ValueError("expected an RSA key: Windows signs .rdp files with no other")  # noqa: TRY004
        if private.public_key() != certificates[0].public_key():
            raise ValueError("expected the key of the first certificate, got another one")
        return cls(certificates, private)

    def sign(self, blob: bytes) -> bytes:
        """Return the detached PKCS#7 signature of a blob, in DER."""
        builder = pkcs7.PKCS7SignatureBuilder().set_data(blob).add_signer(self._chain[0], self._key, hashes.SHA256())
        for certificate in self._chain[1:]:
            builder = builder.add_certificate(certificate)
        return builder.sign(serialization.Encoding.DER, _OPTIONS)


def rdp_file(address: str, load_balance_info: str, user: str = "", signer: FileSigner | None = None) -> bytes:
    """Return an .rdp file that leads to the gateway.

    Args:
        address: The gateway, as `HOST` or `HOST:PORT`.
        load_balance_info: The routing token that the client sends.
        user: The name that the client suggests at the logon.
        signer: Signs it; None for no signature.

    Raises:
        ValueError: A text holds a character that would begin another line.
    """
    lines = {
        "full address:s": address,
        "alternate full address:s": address,  # else a change of this one would not be noticed
        "enablecredsspsupport:i": "1",
        "prompt for credentials:i": "0",
        "authentication level:i": "2",
        "loadbalanceinfo:s": load_balance_info,
        "username:s": user,
    }
    if not all(value.isprintable() for value in lines.values()):
        raise ValueError("expected texts of printable characters for an .rdp file")
    text = "".join(f"{name}:{value}\r\n" for name, value in lines.items() if value)
    if signer is not None:
        signed = "".join(f"{name}:{lines[name]}\r\n" for name in _SCOPE if lines[name])
        scope = f"signscope:s:{','.join(_SCOPE[name] for name in _SCOPE if lines[name])}\r\n"
        signature = signer.sign(f"{signed}{scope}\0".encode("utf-16-le"))
        header = _HEADER.pack(0x00010001, 1, len(signature))
        text += f"{scope}signature:s:{base64.b64encode(header + signature).decode()}\r\n"
    return b"\xff\xfe" + text.encode("utf-16-le")
