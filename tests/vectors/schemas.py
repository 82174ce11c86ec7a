"""Oracles for the hand-written DER codecs: the ASN.1 of [MS-CSSP] for asn1crypto, and for asn1tools (cssp.asn).

Neither is used outside the tests. asn1crypto reads lazily and leaves trailing bytes alone, so `native()` forces both.
"""

# ruff: noqa: RUF012 - this is how asn1crypto declares fields

import functools
from pathlib import Path

import asn1tools
from asn1crypto import core


class NegoDataItem(core.Sequence):
    _fields = [("negoToken", core.OctetString, {"explicit": 0})]


class NegoData(core.SequenceOf):
    _child_spec = NegoDataItem


class TSRequest(core.Sequence):
    _fields = [
        ("version", core.Integer, {"explicit": 0}),
        ("negoTokens", NegoData, {"explicit": 1, "optional": True}),
        ("authInfo", core.OctetString, {"explicit": 2, "optional": True}),
        ("pubKeyAuth", core.OctetString, {"explicit": 3, "optional": True}),
        ("errorCode", core.Integer, {"explicit": 4, "optional": True}),
        ("clientNonce", core.OctetString, {"explicit": 5, "optional": True}),
    ]


class TSCredentials(core.Sequence):
    _fields = [
        ("credType", core.Integer, {"explicit": 0}),
        ("credentials", core.OctetString, {"explicit": 1}),
    ]


class TSPasswordCreds(core.Sequence):
    _fields = [
        ("domainName", core.OctetString, {"explicit": 0}),
        ("userName", core.OctetString, {"explicit": 1}),
        ("password", core.OctetString, {"explicit": 2}),
    ]


class TSCspDataDetail(core.Sequence):
    _fields = [
        ("keySpec", core.Integer, {"explicit": 0}),
        ("cardName", core.OctetString, {"explicit": 1, "optional": True}),
        ("readerName", core.OctetString, {"explicit": 2, "optional": True}),
        ("containerName", core.OctetString, {"explicit": 3, "optional": True}),
        ("cspName", core.OctetString, {"explicit": 4, "optional": True}),
    ]


class TSSmartCardCreds(core.Sequence):
    _fields = [
        ("pin", core.OctetString, {"explicit": 0}),
        ("cspData", TSCspDataDetail, {"explicit": 1}),
        ("userHint", core.OctetString, {"explicit": 2, "optional": True}),
        ("domainHint", core.OctetString, {"explicit": 3, "optional": True}),
    ]


class TSRemoteGuardPackageCred(core.Sequence):
    _fields = [
        ("packageName", core.OctetString, {"explicit": 0}),
        ("credBuffer", core.OctetString, {"explicit": 1}),
    ]


class TSRemoteGuardPackageCreds(core.SequenceOf):
    _child_spec = TSRemoteGuardPackageCred


class TSRemoteGuardCreds(core.Sequence):
    _fields = [
        ("logonCred", TSRemoteGuardPackageCred, {"explicit": 0}),
        ("supplementalCreds", TSRemoteGuardPackageCreds, {"explicit": 1, "optional": True}),
    ]


def native(schema: type[core.Asn1Value], data: bytes):
    """What asn1crypto reads, as dicts, lists, bytes and numbers; None for an absent field."""
    return schema.load(data, strict=True).native


def dump(schema: type[core.Asn1Value], value: dict) -> bytes:
    """What asn1crypto writes; a field of None is left out."""
    return schema({name: field for name, field in value.items() if field is not None}).dump(force=True)


@functools.cache
def module() -> asn1tools.compiler.Specification:
    """The ASN.1 module, compiled by asn1tools for DER."""
    return asn1tools.compile_files(str(Path(__file__).parent / "cssp.asn"), "der")
