"""TLS for both sides: the contexts that the configurations take, certificates, and the TLS session of a connection.

A server's `ssl_context` comes from `server_context` (files) or `server_context_from_pem` (memory), and `sni_contexts`
makes one of several, by the name that a client asks for. A client makes its context itself; `client_context` and
`client_context_from_pem` are for clients that show a certificate.
"""

from acredssp.certificates.end_point import end_point_binding
from acredssp.core.own_certificate import own_chain
from acredssp.core.record_sizes import RecordSizes
from acredssp.core.tls import BIOPair, TLSSession
from acredssp.sni import sni_contexts
from acredssp.tls_config import (
    client_context,
    client_context_from_pem,
    self_signed,
    server_context,
    server_context_from_pem,
)
from acredssp.wire.x509 import subject_public_key

__all__ = [
    "BIOPair",
    "RecordSizes",
    "TLSSession",
    "client_context",
    "client_context_from_pem",
    "end_point_binding",
    "own_chain",
    "self_signed",
    "server_context",
    "server_context_from_pem",
    "sni_contexts",
    "subject_public_key",
]
