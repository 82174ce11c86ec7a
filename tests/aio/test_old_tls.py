"""Whole logons over TLS 1.0 and 1.1, whose records OpenSSL splits in two: one without content goes in front."""

import ssl

import pytest
from support.endpoints import CERTIFICATE, KEY, Recorder, client_config, server_config, until

from acredssp import RDP, TLS, Policy, create_connection, create_server
from acredssp.tls_config import client_context, server_context_from_pem

V = ssl.TLSVersion
pytestmark = pytest.mark.skipif(not (ssl.HAS_TLSv1 and ssl.HAS_TLSv1_1), reason="openssl was built without it")

OLD = Policy(min_tls=V.TLSv1, dangerous_allow_legacy_tls=True)
# Made here, since making one writes a file, which no test may do on its loop.
CONTEXT = server_context_from_pem(OLD, CERTIFICATE, KEY)
CLIENTS = {
    name: client_context(Policy(min_tls=V.TLSv1, max_tls=version, dangerous_allow_legacy_tls=True))
    for name, version in (("TLSv1", V.TLSv1), ("TLSv1.1", V.TLSv1_1))
}


@pytest.mark.parametrize("carriage", [TLS(), RDP(hybrid_ex=True)], ids=["tls", "rdp"])
@pytest.mark.parametrize("version", CLIENTS)
async def test_a_logon_over_an_old_version(version, carriage):
    apps = []
    server = await create_server(
        lambda: apps.append(Recorder()) or apps[-1],
        "127.0.0.1",
        0,
        config=server_config(ssl_context=CONTEXT),
        carriage=carriage,
    )
    transport, _ = await create_connection(
        Recorder,
        "127.0.0.1",
        server.sockets[0].getsockname()[1],
        config=client_config(ssl_context=CLIENTS[version]),
        carriage=carriage,
    )
    assert transport.get_extra_info("credssp").tls_version == version
    assert transport.get_extra_info("credssp").version == 6
    transport.write(b"word" * 10_000)
    await until(lambda: apps)
    assert await apps[0].got(40_000) == b"word" * 10_000
    transport.close()
    server.close()
    server.abort_clients()
    await server.wait_closed()
