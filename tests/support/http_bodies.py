"""Two contexts that have logged on by turns, under any version of TLS and any cipher suite, and bodies made by hand."""

import ssl

from support.engine import pem
from support.records import CIPHERS, directions
from support.turns import client_side, server_side, take_turns

from acredssp import tls_config
from acredssp.policy import Policy

V = ssl.TLSVersion
VERSIONS = {"TLSv1": V.TLSv1, "TLSv1.1": V.TLSv1_1, "TLSv1.2": V.TLSv1_2, "TLSv1.3": V.TLSv1_3}
NO_ENCRYPT_THEN_MAC = 0x00080000
"""SSL_OP_NO_ENCRYPT_THEN_MAC, which CPython does not name."""

SUITES = [
    ("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384"),
    ("TLSv1.2", "ECDHE-RSA-CHACHA20-POLY1305"),
    ("TLSv1.2", "ECDHE-RSA-AES128-SHA256"),
    ("TLSv1.2", "AES256-SHA"),
]

TYPE = 'multipart/encrypted;protocol="application/HTTP-CredSSP-session-encrypted";boundary="Encrypted Boundary"'
MULTI = TYPE.replace("multipart/encrypted", "multipart/x-multi-encrypted")
SOAP = "application/soap+xml;charset=UTF-8"
END = b"--Encrypted Boundary--\r\n"


def logged_on(version="TLSv1.3", cipher="", *, encrypt_then_mac=True):
    """Return a client's and a server's context."""
    newest = VERSIONS[version]
    policy = Policy(
        min_tls=newest,
        max_tls=newest,
        dangerous_allow_legacy_tls=newest < V.TLSv1_2,
        dangerous_accept_any_certificate=True,
    )
    contexts = tls_config.client_context(policy), tls_config.server_context_from_pem(policy, *pem())
    for context in contexts:
        if cipher and newest < V.TLSv1_3:
            context.set_ciphers(cipher + ":@SECLEVEL=0")
        if not encrypt_then_mac:
            context.options |= NO_ENCRYPT_THEN_MAC
    client, server = client_side(policy, ssl_context=contexts[0]), server_side(policy, ssl_context=contexts[1])
    for _ in take_turns(client, server):
        pass
    return client.context, server.context


def logged_on_by_hand(keys, version):
    """Return a client's and a server's context, and what the client may send next by hand; `keys` is a path."""
    policy = Policy(min_tls=VERSIONS[version], max_tls=VERSIONS[version], dangerous_accept_any_certificate=True)
    contexts = tls_config.client_context(policy), tls_config.server_context_from_pem(policy, *pem())
    for context in contexts if version != "TLSv1.3" else ():
        context.set_ciphers(CIPHERS[version].replace("ECDSA", "RSA"))
    contexts[0].keylog_filename = str(keys)
    client, server = client_side(policy, ssl_context=contexts[0]), server_side(policy, ssl_context=contexts[1])
    flights = list(take_turns(client, server))
    contexts[0].keylog_filename = None
    return client.context, server.context, directions(keys.read_text("ascii"), flights)[0]


def pair(records, length, *, trailer=16, content=SOAP):
    """Return one pair of parts, as Windows and the clients of the field write it."""
    return (
        b"--Encrypted Boundary\r\n"
        b"\tContent-Type: application/HTTP-CredSSP-session-encrypted\r\n"
        b"\tOriginalContent: type=" + content.encode() + b";Length=" + str(length).encode() + b"\r\n"
        b"--Encrypted Boundary\r\n"
        b"\tContent-Type: application/octet-stream\r\n" + trailer.to_bytes(4, "little") + records
    )
