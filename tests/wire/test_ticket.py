"""The encryption type of a Kerberos ticket."""

import asn1tools
import pytest

from acredssp.errors import RemoteProtocolError
from acredssp.wire.ticket import ticket_enctype

RFC_4120 = asn1tools.compile_string(
    """
    Kerberos DEFINITIONS EXPLICIT TAGS ::= BEGIN
    PrincipalName ::= SEQUENCE { name-type [0] INTEGER, name-string [1] SEQUENCE OF GeneralString }
    EncryptedData ::= SEQUENCE { etype [0] INTEGER, kvno [1] INTEGER OPTIONAL, cipher [2] OCTET STRING }
    Ticket ::= [APPLICATION 1] SEQUENCE {
        tkt-vno [0] INTEGER, realm [1] GeneralString, sname [2] PrincipalName, enc-part [3] EncryptedData }
    END
    """
)


def ticket(etype, cipher=b"c" * 300):
    name = {"name-type": 2, "name-string": ["TERMSRV", "host.example"]}
    sealed = {"etype": etype, "kvno": 3, "cipher": cipher}
    return RFC_4120.encode("Ticket", {"tkt-vno": 5, "realm": "EXAMPLE", "sname": name, "enc-part": sealed})


@pytest.mark.parametrize("etype", [17, 18, 19, 20, 23, -133])
def test_the_encryption_type_is_read(etype):
    assert ticket_enctype(ticket(etype)) == etype


@pytest.mark.parametrize(
    "data", [b"", b"\x61", ticket(18)[:-1], ticket(18) + b"\0", b"\x60" + ticket(18)[1:], b"\x61\x02\x30\x00"]
)
def test_what_is_no_ticket_is_refused(data):
    with pytest.raises(RemoteProtocolError):
        ticket_enctype(data)


@pytest.mark.parametrize("size", range(0, 60, 7))
def test_a_ticket_that_is_cut_is_refused(size):
    with pytest.raises(RemoteProtocolError):
        ticket_enctype(ticket(18)[:size])
