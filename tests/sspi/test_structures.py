"""Packed structures against ctypes, which lays them out as C does; and what no repr may show."""

import ctypes
import dataclasses

import pytest

from acredssp import sspi
from acredssp.errors import LocalProtocolError
from acredssp.sspi import SEC_CHANNEL_BINDINGS, SecurityStatus

SECRET = "Correct-Horse-Battery"


class Bindings(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint32)
        for name in (
            "dwInitiatorAddrType", "cbInitiatorLength", "dwInitiatorOffset",
            "dwAcceptorAddrType", "cbAcceptorLength", "dwAcceptorOffset",
            "cbApplicationDataLength", "dwApplicationDataOffset",
        )
    ]  # fmt: skip


def test_bindings_are_laid_out_as_in_c():
    bindings = SEC_CHANNEL_BINDINGS(1, b"me", 2, b"you", b"tls-unique:abc")
    encoded = bindings.encode()
    front = Bindings.from_buffer_copy(encoded)

    def part(length, offset):
        return encoded[offset : offset + length]

    assert (front.dwInitiatorAddrType, front.dwAcceptorAddrType) == (1, 2)
    assert part(front.cbInitiatorLength, front.dwInitiatorOffset) == b"me"
    assert part(front.cbAcceptorLength, front.dwAcceptorOffset) == b"you"
    assert part(front.cbApplicationDataLength, front.dwApplicationDataOffset) == b"tls-unique:abc"
    assert SEC_CHANNEL_BINDINGS.parse(encoded) == bindings


def test_bindings_of_c_are_read():
    data = b"tls-server-end-point:" + bytes(32)
    encoded = bytes(Bindings(cbApplicationDataLength=len(data), dwApplicationDataOffset=32)) + data
    assert SEC_CHANNEL_BINDINGS.parse(memoryview(encoded)) == SEC_CHANNEL_BINDINGS(ApplicationData=data)
    assert SEC_CHANNEL_BINDINGS(ApplicationData=data).encode() == encoded


@pytest.mark.parametrize("length", range(32))
def test_bindings_cut_short_are_refused(length):
    with pytest.raises(LocalProtocolError) as caught:
        SEC_CHANNEL_BINDINGS.parse(SEC_CHANNEL_BINDINGS().encode()[:length])
    assert caught.value.security_status is SecurityStatus.SEC_E_BAD_BINDINGS


@pytest.mark.parametrize(("length", "offset"), [(1, 36), (5, 32), (4, 31), (4, 0), (2**32 - 1, 32), (1, 2**32 - 1)])
@pytest.mark.parametrize("part", ["Initiator", "Acceptor", "ApplicationData"])
def test_bindings_that_point_outside_are_refused(part, length, offset):
    names = {f"cb{part}Length": length, f"dw{part}Offset": offset}
    with pytest.raises(LocalProtocolError) as caught:
        SEC_CHANNEL_BINDINGS.parse(bytes(Bindings(**names)) + b"four")
    assert caught.value.security_status is SecurityStatus.SEC_E_BAD_BINDINGS


def test_what_a_query_fills_is_made_empty():
    for name in sspi.__all__:
        structure = getattr(sspi, name)
        if name.startswith(("SecPkg", "CERT_TRUST_STATUS")):
            assert dataclasses.is_dataclass(structure), name
            assert structure() == structure()


@pytest.mark.parametrize(
    "holder",
    [
        sspi.SEC_WINNT_AUTH_IDENTITY(User="alice", Password=SECRET),
        sspi.SEC_WINNT_AUTH_IDENTITY_EX(User="alice", Password=SECRET),
        sspi.SEC_WINNT_AUTH_IDENTITY_EX2(User="alice", Password=SECRET.encode("utf-16-le")),
        sspi.CREDSSP_CRED(pSpnegoCred=sspi.SEC_WINNT_AUTH_IDENTITY(Password=SECRET)),
        sspi.CREDSSP_CRED_EX(Cred=sspi.CREDSSP_CRED(pSpnegoCred=sspi.SEC_WINNT_AUTH_IDENTITY(Password=SECRET))),
        sspi.CertContext(b"chain", SECRET.encode()),
        sspi.SCHANNEL_CRED(paCred=[sspi.CertContext(b"chain", SECRET.encode())]),
        sspi.KERB_INTERACTIVE_LOGON(Password=SECRET),
        sspi.KERB_CERTIFICATE_LOGON(Pin=SECRET, CspData=SECRET.encode()),
        sspi.SecPkgContext_ClientCreds(bytearray(SECRET.encode())),
        sspi.SecPkgContext_SessionKey(SECRET.encode()),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_a_repr_shows_no_secret(holder):
    shown = repr(holder)
    assert SECRET not in shown
    assert str(SECRET.encode("utf-16-le"))[2:-1] not in shown


def test_counts_follow_what_they_count():
    creds = sspi.SecPkgContext_ClientCreds(bytearray(7))
    issuers = sspi.SecPkgContext_IssuerListInfoEx([b"a", b"b"])
    bindings = sspi.SecPkgContext_Bindings(SEC_CHANNEL_BINDINGS(ApplicationData=b"abc"))
    assert (creds.AuthBufferLen, issuers.cIssuers, bindings.BindingsLength) == (7, 2, 35)
    assert sspi.SecPkgContext_Bindings().BindingsLength == 0
    assert sspi.SecPkgContext_SessionKey(b"abc").SessionKeyLength == 3
    assert sspi.SCHANNEL_CRED(paCred=[object()]).cCreds == sspi.SCH_CREDENTIALS(paCred=[object()]).cCreds == 1
