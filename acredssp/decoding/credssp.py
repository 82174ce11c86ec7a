"""CredSSP's own structures as trees: TSRequest, TSCredentials and the early user authorization ([MS-CSSP] 2.2)."""

from collections.abc import Callable
from typing import Final

from acredssp.decoding import asn1, gss, ntlm
from acredssp.decoding.nodes import Malformed, Node, Secret, Source
from acredssp.status import NTSTATUS
from acredssp.wire import early_auth, ts_credentials
from acredssp.wire.ts_request import TSRequest

__all__ = ["early_authorization", "request", "ts_credentials_tree"]

_NTLM_SIGNATURE: Final = b"\x01\x00\x00\x00"
_CRED_TYPES: Final = {1: "TSPasswordCreds", 2: "TSSmartCardCreds", 6: "TSRemoteGuardCreds"}


def _sealed(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    """Add what the mechanism has sealed: NTLM's signature or Kerberos' Wrap token, with what it holds hidden."""
    data = source.data
    if data.startswith(_NTLM_SIGNATURE, start) and end - start >= 16:
        ntlm.signature(source, parent, name, start, end)
    elif data.startswith(b"\x05\x04", start) and end - start >= 16:
        gss.per_message_token(source, parent, name, start, end)
    else:
        source.secret(parent, Secret.SEALED, name, start, end)


def _status(value: int) -> str:
    return str(NTSTATUS(value & 0xFFFFFFFF))


_REQUEST: Final = asn1.sequence(
    {
        0: ("version", asn1.integer()),
        1: (
            "negoTokens",
            asn1.sequence_of("NegoData", asn1.sequence({0: ("negoToken", asn1.octets(inner=gss.token))})),
        ),
        2: ("authInfo", asn1.octets(inner=_sealed)),
        3: ("pubKeyAuth", asn1.octets(inner=_sealed)),
        4: ("errorCode", asn1.integer(_status)),
        5: ("clientNonce", asn1.octets()),
    }
)


def _wide(source: Source, parent: Node, name: str, start: int, end: int) -> None:
    source.new(parent, name, start, end, source.data[start:end].decode("utf-16-le", "backslashreplace"))


def _secret_text(kind: Secret) -> Callable[[Source, Node, str, int, int], None]:
    def decode(source: Source, parent: Node, name: str, start: int, end: int) -> None:
        text = source.data[start:end].decode("utf-16-le", "backslashreplace")
        source.secret(parent, kind, name, start, end, text)

    return asn1.octets(inner=decode)


_TEXT: Final = asn1.octets(inner=_wide)
_PACKAGE: Final = asn1.sequence({0: ("packageName", _TEXT), 1: ("credBuffer", asn1.octets(Secret.CRED_BUFFER))})
_CSP_DATA: Final = asn1.sequence(
    {
        0: ("keySpec", asn1.integer({1: "AT_KEYEXCHANGE", 2: "AT_SIGNATURE"})),
        1: ("cardName", _TEXT),
        2: ("readerName", _TEXT),
        3: ("containerName", _TEXT),
        4: ("cspName", _TEXT),
    }
)
_CREDENTIALS: Final = {
    1: asn1.sequence(
        {0: ("domainName", _TEXT), 1: ("userName", _TEXT), 2: ("password", _secret_text(Secret.PASSWORD))}
    ),
    2: asn1.sequence(
        {
            0: ("pin", _secret_text(Secret.PIN)),
            1: ("cspData", _CSP_DATA),
            2: ("userHint", _TEXT),
            3: ("domainHint", _TEXT),
        }
    ),
    6: asn1.sequence({0: ("logonCred", _PACKAGE), 1: ("supplementalCreds", asn1.sequence_of("package", _PACKAGE))}),
}


def request(source: Source, parent: Node, start: int, end: int) -> None:
    """Add a TSRequest."""
    _REQUEST(source, parent, "TSRequest", start, end)
    _judge(parent.children[-1], TSRequest.decode, source.data[start:end])


def ts_credentials_tree(source: Source, parent: Node, start: int, end: int) -> None:
    """Add a TSCredentials, the plaintext of authInfo. All of it is kept out of the surroundings of faults."""
    source.guard(Secret.PASSWORD, start, end)
    body, stop = asn1.expect(source, asn1.SEQUENCE, start, end, "TSCredentials")
    node = source.new(parent, "TSCredentials", start, stop)
    try:
        _credentials(source, node, body, stop)
    except Malformed:
        source.distrust(node, Secret.PASSWORD)
        raise
    _judge(node, ts_credentials.decode, source.data[start:end])
    if node.refused:
        source.distrust(node, Secret.PASSWORD)


def _credentials(source: Source, node: Node, body: int, stop: int) -> None:
    inner, after = asn1.expect(source, asn1.CONTEXT, body, stop, "credType")
    asn1.integer(_CRED_TYPES)(source, node, "credType", inner, after)
    kind = node.children[-1].value
    inner, after = asn1.expect(source, asn1.CONTEXT + 1, after, stop, "credentials")
    inner, after = asn1.expect(source, asn1.OCTET_STRING, inner, after, "credentials")
    read = _CREDENTIALS.get(kind) if isinstance(kind, int) else None
    if read is None:
        source.secret(node, Secret.PASSWORD, "credentials", inner, after)
    else:
        read(source, node, str(_CRED_TYPES.get(int(kind or 0))), inner, after)


def early_authorization(source: Source, parent: Node, start: int, end: int) -> None:
    """Add an Early User Authorization Result PDU ([MS-RDPBCGR] 2.2.10.2)."""
    result = early_auth.decode(source.data[start:end])
    node = source.new(parent, "Early User Authorization Result", start, end)
    source.new(node, "authorizationResult", start, end, int(result), result.name)


def _judge(node: Node, decode: Callable[[bytes], object], data: bytes) -> None:
    """Note what the engine's own decoder says of a structure."""
    try:
        decode(data)
    except Exception as error:  # noqa: BLE001 - whatever the engine finds wrong
        node.refused = str(error)
