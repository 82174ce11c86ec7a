"""Which certificate OpenSSL's client is shown, by the signatures that it takes, and which server contexts we refuse."""

import contextlib
import socket
import ssl
import threading

import pytest
from support.engine import pem
from support.peers import free_port

from acredssp import tls_config
from acredssp.core.own_certificate import own_chain
from acredssp.errors import PolicyError

pytestmark = pytest.mark.interop

PATIENCE = 60
"""Seconds until a peer that says nothing is taken for dead."""
SIGNATURES = {"rsa": "RSA-PSS+SHA256:RSA+SHA256", "ec": "ECDSA+SHA256"}


def context_of(folder, kinds, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    for kind in kinds:
        chain, key = pem(kind)
        (folder / "server.pem").write_bytes(key + chain)
        context.load_cert_chain(folder / "server.pem")
    return context


def shown_to(lab, context, kind):
    """The chain that a context shows to a client that takes signatures of one kind; empty where there is none."""
    listener = socket.create_server(("127.0.0.1", free_port()))
    listener.settimeout(PATIENCE)
    serving = threading.Thread(target=serve_one, args=(listener, context))
    serving.start()
    address = "{}:{}".format(*listener.getsockname())
    run = lab.run(["openssl", "s_client", "-connect", address, "-sigalgs", SIGNATURES[kind], "-showcerts"])
    serving.join()
    if "BEGIN CERTIFICATE" not in run.output:
        return ()
    return tls_config.chain_of(run.output.encode())


def serve_one(listener, context):
    with listener, listener.accept()[0] as connection, contextlib.suppress(OSError):
        connection.settimeout(PATIENCE)
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_client_decides_which_certificate_it_is_shown_and_such_a_context_is_refused(lab, tmp_path, version):
    context = context_of(tmp_path, ["rsa", "ec"], version)
    for kind in SIGNATURES:
        assert shown_to(lab, context, kind) == tls_config.chain_of(pem(kind)[0])
    with pytest.raises(PolicyError, match="two key types"):
        own_chain(context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("kind", "other"), [("rsa", "ec"), ("ec", "rsa")])
def test_a_context_with_one_certificate_is_bound_to_what_clients_are_shown(lab, tmp_path, version, kind, other):
    context = context_of(tmp_path, [kind], version)
    assert shown_to(lab, context, kind) == own_chain(context) == tls_config.chain_of(pem(kind)[0])
    assert shown_to(lab, context, other) == ()
