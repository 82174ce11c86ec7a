"""Bytes to frozen values and back: no state, no I/O, no policy.

The names of this package are the structures of [MS-CSSP] that applications meet: the credentials that a client
delegates, the secrets inside them, and TSRequest. A decoder turns whatever a peer sends into a value, or raises a
`RemoteProtocolError` that names the field and the offset.
"""

from acredssp.secret import SecretBytes
from acredssp.wire.ticket_logon import KerbTicketLogon
from acredssp.wire.ts_credentials import (
    SecretText,
    TSCredentials,
    TSCspDataDetail,
    TSPasswordCreds,
    TSRemoteGuardCreds,
    TSRemoteGuardPackageCred,
    TSSmartCardCreds,
    UnicodeString,
)
from acredssp.wire.ts_request import TSRequest

__all__ = [
    "KerbTicketLogon",
    "SecretBytes",
    "SecretText",
    "TSCredentials",
    "TSCspDataDetail",
    "TSPasswordCreds",
    "TSRemoteGuardCreds",
    "TSRemoteGuardPackageCred",
    "TSRequest",
    "TSSmartCardCreds",
    "UnicodeString",
]
