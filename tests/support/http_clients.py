"""The clients of the field for WinRM, as programs that send messages of many sizes over CredSSP and get them back.

Each client has a function `send(bytes) -> bytes`. They run in processes of their own: they leave sockets to the
collector. The processes are forked from one that has imported the clients, which takes longer than what they do.
"""

import importlib.util
import json
import multiprocessing
import os
import sys
import tempfile
from pathlib import Path

import pytest
from support.peers import DEADLINE

CLIENTS = {
    "requests_credssp": """
import requests, requests_credssp, struct, re
auth = requests_credssp.HttpCredSSPAuth(USER, PASSWORD, auth_mechanism=MECHANISM, minimum_version=5)
session = requests.Session()
session.trust_env, session.verify = False, False
def send(message):
    if not auth.contexts:
        session.post(URL, auth=auth, timeout=60).raise_for_status()
    client = auth.contexts["localhost"]
    parts = []
    for start in range(0, len(message), 16384):
        chunk = message[start : start + 16384]
        header, data, _ = client.wrap_winrm(chunk)
        parts.append(
            b"--Encrypted Boundary\\r\\n\\tContent-Type: application/HTTP-CredSSP-session-encrypted\\r\\n"
            b"\\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\\r\\n--Encrypted Boundary\\r\\n"
            b"\\tContent-Type: application/octet-stream\\r\\n" % len(chunk)
            + struct.pack("<I", len(header)) + header + data
        )
    kind = "multipart/encrypted" if len(message) <= 16384 else "multipart/x-multi-encrypted"
    kind += ';protocol="application/HTTP-CredSSP-session-encrypted";boundary="Encrypted Boundary"'
    body = b"".join([*parts, b"--Encrypted Boundary--\\r\\n"])
    answer = session.post(URL, data=body, headers={"Content-Type": kind}, timeout=60)
    answer.raise_for_status()
    parts = re.split(rb"--Encrypted Boundary(?:--)?\\r\\n", answer.content)[2::2]
    return b"".join(
        client.unwrap(part.partition(b"octet-stream\\r\\n")[2][4:]) for part in parts
    )
""",
    "pypsrp": """
from pypsrp.wsman import _TransportHTTP
transport = _TransportHTTP(
    "localhost", PORT, USER, PASSWORD, ssl=URL.startswith("https"), cert_validation=False, auth="credssp",
    no_proxy=True, encryption="always", credssp_auth_mechanism=MECHANISM, credssp_minimum_version=5,
)
send = transport.send
""",
    "winrm": """
from winrm.transport import Transport
transport = Transport(
    URL, auth_method="credssp", username=USER, password=PASSWORD, proxy=None, server_cert_validation="ignore",
    message_encryption="always", credssp_auth_mechanism=MECHANISM, credssp_minimum_version=5,
)
send = transport.send_message
""",
    "awinrm": """
import asyncio, httpx
from asyauth.common.constants import asyauthSecret
from asyauth.common.credentials.ntlm import NTLMCredential
from awinrm.transport import Transport
loop = asyncio.new_event_loop()
domain, _, user = USER.rpartition("\\\\")
transport = Transport(
    URL, NTLMCredential(PASSWORD, user, domain, asyauthSecret.PASSWORD), "credssp",
    # As its own transport, which its verify=False does not reach. httpx alone drops an idle connection after 5 seconds.
    transport=httpx.AsyncHTTPTransport(verify=False, limits=httpx.Limits(keepalive_expiry=300)),
)
def send(message):
    return loop.run_until_complete(transport.send_message(message))
""",
}

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
URL, PORT, MECHANISM, PASSWORD = sys.argv[1], int(sys.argv[2]), *sys.argv[3:5]
SIZES, USER = map(json.loads, sys.argv[5:7])
{client}
try:
    answers = [send(b"x" * size) == b"x" * size for size in SIZES]
    print(json.dumps({{"answers": answers, "nothing": len(send(b"nothing"))}}))
except Exception as error:
    print(json.dumps({{"error": type(error).__name__, "text": str(error)}}))
"""


def word_of(client, port, mechanism="ntlm", password="Passw0rd!", *, sizes=(), user="CONTOSO\\alice", scheme="http"):
    """What a client says at its end: it sends bodies of `sizes`, and then `nothing`, whose answer is empty."""
    if importlib.util.find_spec(client) is None:
        pytest.skip(f"{client} is not installed")
    program = PROGRAM.format(client=CLIENTS[client])
    url = f"{scheme}://localhost:{port}/wsman"
    arguments = [url, str(port), mechanism, password, json.dumps([*sizes]), json.dumps(user)]
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as said:
        process = _FORKS.Process(target=_be, args=(program, arguments, dict(os.environ), said.name))
        process.start()
        process.join(5 * DEADLINE)  # 20 MiB on a busy machine
        if process.is_alive():
            process.kill()
            process.join()
        output = said.read()
    assert process.exitcode == 0, output
    return json.loads(output.splitlines()[-1])


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["pytest", "support.http_clients", "requests_credssp", "pypsrp.wsman", "winrm.transport", "awinrm.transport"]
)


def _be(program, arguments, environment, output):
    """Be the process that runs a program, as `python -c` is one."""
    with Path(output).open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.environ.clear()
    os.environ.update(environment)  # the realm is that of the test
    sys.argv = ["-c", *arguments]
    exec(program, {"__name__": "__main__"})  # noqa: S102 - it is one of the above
