"""An HTTP/1.1 server on pyspnego's acceptor, in threads, that gives sealed bodies back in upper case."""

import base64
import contextlib
import re
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import spnego
from spnego.exceptions import SpnegoError
from support.peers import free_port

PART = 16_384
PAIR = (
    b"--Encrypted Boundary\r\n\tContent-Type: application/HTTP-CredSSP-session-encrypted\r\n"
    b"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\r\n--Encrypted Boundary\r\n"
    b"\tContent-Type: application/octet-stream\r\n"
)


class Handler(BaseHTTPRequestHandler):
    """A connection. Its server has `mechanism`, `version`, and the lists `users`, `bodies` and `connections`."""

    protocol_version, timeout, context = "HTTP/1.1", 60, None

    def log_message(self, *args):
        pass

    def do_POST(self):
        body = self.body()
        if self.context is None:
            self.server.connections.append(self)
            self.context = self.acceptor()
        if self.context.complete:
            self.serve(body)
            return
        token, header = b"", self.headers["Authorization"]
        with contextlib.suppress(SpnegoError):
            token = self.context.step(base64.b64decode(header.removeprefix("CredSSP "))) or b""
        if self.context.complete:
            self.server.users.append(self.context.client_principal)
        challenge = ("WWW-Authenticate", b"CredSSP " + base64.b64encode(token))
        self.reply(200 if self.context.complete else 401, b"", [challenge])

    def acceptor(self):
        tls = spnego._credssp._create_tls_context("accept")
        tls.context.minimum_version = tls.context.maximum_version = self.server.version
        inner = spnego.server(protocol=self.server.mechanism)
        return spnego.server(protocol="credssp", credssp_negotiate_context=inner, credssp_tls_context=tls)

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def serve(self, body):
        parts = re.split(rb"--Encrypted Boundary(?:--)?\r\n", body)[2::2]
        opened = b"".join(self.context.unwrap(part.partition(b"octet-stream\r\n")[2][4:]).data for part in parts)
        self.server.bodies.append(opened)
        answer, sealed = opened.upper(), []
        for start in range(0, len(answer) or 1, PART):
            chunk = answer[start : start + PART]
            header, data, _ = self.context.wrap_winrm(chunk) if chunk else (b"", b"", 0)
            sealed.append(PAIR % len(chunk) + struct.pack("<I", len(header)) + header + data)
        kind = "multipart/encrypted" if len(answer) <= PART else "multipart/x-multi-encrypted"
        kind += ';protocol="application/HTTP-CredSSP-session-encrypted";boundary="Encrypted Boundary"'
        self.reply(200, b"".join([*sealed, b"--Encrypted Boundary--\r\n"]), [("Content-Type", kind.encode())])

    def reply(self, status, body, headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value.decode())
        self.send_header("Content-Length", len(body))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def running(mechanism, version):
    """A server that runs; its accounts are in NTLM_USER_FILE."""
    with ThreadingHTTPServer(("127.0.0.1", free_port()), Handler) as server:
        server.mechanism, server.version = mechanism, version
        server.users, server.bodies, server.connections = [], [], []
        server.daemon_threads = False
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
