"""Old versions and suites of TLS with openssl's own client and server, and the key log of a connection."""

import re
import socket
import ssl
import subprocess

import pytest
from support.engine import pem
from support.peers import free_port

from acredssp import Policy, tls_config
from acredssp.core.tls import TLSSession
from acredssp.errors import TLSError

pytestmark = pytest.mark.interop

V = ssl.TLSVersion
OLD = Policy(min_tls=V.TLSv1, dangerous_allow_legacy_tls=True)
SUITES = Policy(max_tls=V.TLSv1_2, dangerous_allow_legacy_ciphers=True)
PATIENCE = 30

ROWS = [
    (OLD, ["-tls1", "-cipher", "ALL:@SECLEVEL=0"], "TLSv1"),
    (OLD, ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "TLSv1.1"),
    (OLD, ["-tls1_2"], "TLSv1.2"),
    (SUITES, ["-tls1_2", "-cipher", "AES128-SHA"], "TLSv1.2"),
    (SUITES, ["-tls1_2", "-cipher", "AES256-GCM-SHA384"], "TLSv1.2"),
    (SUITES, ["-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA"], "TLSv1.2"),
]
NOT_WITHOUT = [row for row in ROWS if row[1] != ["-tls1_2"]]
IDS = [" ".join(row[1][:3:2]) for row in ROWS]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openssl")
    chain, key = pem("rsa")
    (folder / "cert.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key)
    return ["-cert", str(folder / "cert.pem"), "-key", str(folder / "key.pem")]


@pytest.fixture
def s_server(files):
    started = []

    def start(*options):
        port = free_port()
        command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", *files, *options]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        started.append(process)
        while (line := process.stdout.readline()) and b"ACCEPT" not in line:
            pass
        return port

    yield start
    for process in started:
        process.kill()
        process.communicate()


def shake_hands(session, connection):
    """Over a socket; the session, or what it raised once the peer has heard of it."""
    done = session.handshake()
    while True:
        connection.sendall(session.output())
        if done:
            return session
        try:
            done = session.handshake(connection.recv(65536))
        except TLSError:
            connection.sendall(session.output())
            raise


def connect(policy, port):
    client = TLSSession(tls_config.client_context(policy), server_side=False)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        return shake_hands(client, connection)


@pytest.mark.parametrize(("policy", "options", "version"), ROWS, ids=IDS)
def test_our_client_reaches_an_old_server_under_the_switch(policy, options, version, s_server):
    client = connect(policy, s_server(*options))
    assert client.version == version
    if version == "TLSv1.2" and "-cipher" in options:
        assert client.cipher == options[-1]


@pytest.mark.parametrize(("policy", "options", "version"), NOT_WITHOUT)
def test_without_the_switch_it_does_not_and_is_told_of_it(policy, options, version, s_server):
    with pytest.raises(TLSError) as caught:
        connect(Policy(), s_server(*options))
    switch = "dangerous_allow_legacy_tls" if policy is OLD else "dangerous_allow_legacy_ciphers"
    assert switch in caught.value.hint


def accept(policy, options, change=lambda context: None):
    """Let openssl's client come to a server of ours; our session, or the error."""
    context = tls_config.server_context_from_pem(policy, *pem("rsa"))
    change(context)
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        command = ["openssl", "s_client", "-connect", address, *options]
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        listener.settimeout(PATIENCE)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(PATIENCE)
            server = TLSSession(context, server_side=True)
            try:
                return shake_hands(server, connection)
            except TLSError as error:
                return error
            finally:
                connection.shutdown(socket.SHUT_RDWR)
                client.communicate(timeout=PATIENCE)


@pytest.mark.parametrize(("policy", "options", "version"), ROWS, ids=IDS)
def test_our_server_takes_an_old_client_under_the_switch(policy, options, version):
    server = accept(policy, options)
    assert server.version == version


@pytest.mark.parametrize(("policy", "options", "version"), NOT_WITHOUT)
def test_without_the_switch_an_old_client_is_refused(policy, options, version):
    error = accept(Policy(), options)
    switch = "dangerous_allow_legacy_tls" if policy is OLD else "dangerous_allow_legacy_ciphers"
    assert isinstance(error, TLSError)
    assert switch in error.hint


@pytest.mark.parametrize("suite", ["ADH-AES128-SHA", "AECDH-AES128-SHA"])
def test_an_anonymous_client_is_refused_even_under_the_switches(suite):
    policy = Policy(min_tls=V.TLSv1, dangerous_allow_legacy_tls=True, dangerous_allow_legacy_ciphers=True)
    error = accept(policy, ["-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0"])
    assert isinstance(error, TLSError)


LABELS = {
    "-tls1_2": {"CLIENT_RANDOM"},
    "-tls1_3": {
        "SERVER_HANDSHAKE_TRAFFIC_SECRET", "CLIENT_HANDSHAKE_TRAFFIC_SECRET", "EXPORTER_SECRET",
        "SERVER_TRAFFIC_SECRET_0", "CLIENT_TRAFFIC_SECRET_0",
    },
}  # fmt: skip


@pytest.mark.parametrize("version", LABELS)
def test_a_key_log_has_what_openssls_own_has(version, tmp_path):
    """Of the same connection, so whoever can read the one can read the other."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    accept(
        Policy(),
        [version, "-keylogfile", str(theirs)],
        lambda context: setattr(context, "keylog_filename", str(ours)),
    )
    lines = {line for line in ours.read_text().splitlines() if not line.startswith("#")}
    assert {line.split()[0] for line in lines} == LABELS[version]
    assert lines == {line for line in theirs.read_text().splitlines() if re.match("[A-Z]", line)}
