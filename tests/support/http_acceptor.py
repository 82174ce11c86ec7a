"""An HTTP/1.1 server that logs its clients on by CredSSP, as WinRM does, and then takes and gives sealed bodies.

A body is the length of the record's trailer (4 bytes, little-endian) and the record ([MS-WSMV] 2.2.9.1.3), without the
MIME parts that WinRM puts around it.
"""

import base64
import contextlib
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import acredssp


class Handler(BaseHTTPRequestHandler):
    """One connection, which is one handshake and what follows it."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def setup(self) -> None:
        super().setup()
        self.context = self.server.config.new_context(turns=True)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if self.context.state is acredssp.State.ESTABLISHED:
            (trailer,) = struct.unpack_from("<I", body)
            plaintext = self.context.tls.read(body[4:])
            self.server.trailers.append((trailer, len(body) - 4 - self.context.record_sizes.header - len(plaintext)))
            self.reply(200, self.seal(plaintext.upper()))
        elif scheme.lower() != "credssp":
            self.reply(401, challenge="CredSSP")
        else:
            self.turn(base64.b64decode(token))

    def turn(self, token: bytes) -> None:
        """Take a client's token, and answer with ours, with 200 at the end, or with a last token that refuses."""
        try:
            result = self.context.step(token)
            while result.event is not None:
                result = self.context.resume(self.server.answer(result.event))
        except acredssp.CredSSPError as error:
            self.server.errors.append(error)
            self.close_connection = True
            self.reply(401, challenge="CredSSP " + base64.b64encode(self.context.last_token).decode())
            return
        if result.status is acredssp.SecurityStatus.SEC_E_OK:
            self.reply(200, str(self.context.info.principal).encode())
        else:
            self.reply(401, challenge="CredSSP " + base64.b64encode(result.output).decode())

    def seal(self, plaintext: bytes) -> bytes:
        record = self.context.tls.encrypt(plaintext)
        return struct.pack("<I", len(record) - self.context.record_sizes.header - len(plaintext)) + record

    def reply(self, status: int, body: bytes = b"", challenge: str = "") -> None:
        self.send_response(status)
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
            self.server.challenges.append(challenge)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Acceptor(ThreadingHTTPServer):
    """The server.

    Args:
        port: Of 127.0.0.1.
        config: Who is let in.
        answer: The answers to the engine's events.
    """

    daemon_threads = False  # so that closing waits for the connections

    def __init__(self, port: int, config: acredssp.ServerConfig, answer: object) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.config, self.answer = config, answer
        self.errors: list[acredssp.CredSSPError] = []
        self.challenges: list[str] = []
        self.trailers: list[tuple[int, int]] = []
        """The length of each record's trailer: as the client says, and as it is."""


@contextlib.contextmanager
def accepting(port: int, config: acredssp.ServerConfig, answer: object) -> Iterator[Acceptor]:
    """Serve while the block runs, and wait for the clients to close their connections."""
    with Acceptor(port, config, answer) as acceptor:
        thread = threading.Thread(target=acceptor.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield acceptor
        finally:
            acceptor.shutdown()
            thread.join()
