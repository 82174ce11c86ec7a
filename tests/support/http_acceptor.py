"""An HTTP/1.1 server that logs its clients on by CredSSP, as WinRM does, and answers sealed bodies in upper case."""

from base64 import b64decode, b64encode
from http.server import BaseHTTPRequestHandler

import acredssp
from acredssp.events import State


class Acceptor(BaseHTTPRequestHandler):
    """A connection. Its server has `config`, `answer` for the events, and the lists `tokens` and `errors` to fill."""

    protocol_version, timeout, context = "HTTP/1.1", 60, None

    def do_POST(self):
        self.context = self.context or self.server.config.new_context(turns=True)
        body, header = self.rfile.read(int(self.headers["Content-Length"])), self.headers["Authorization"]
        if self.context.state is State.ESTABLISHED:
            record = self.context.tls.encrypt(plaintext := self.context.tls.read(body[4:]).upper())
            trailer = len(record) - self.context.record_sizes.header - len(plaintext)
            self.reply(trailer.to_bytes(4, "little") + record)  # [MS-WSMV] 2.2.9.1.3
        else:
            self.server.tokens.append(token := self.turn(b64decode(header.removeprefix("CredSSP"))) if header else b"")
            self.reply(str(self.context.info.principal).encode(), token)

    def turn(self, token):
        try:
            result = self.context.step(token)
            while result.event is not None:
                result = self.context.resume(result.event, self.server.answer(result.event))
        except acredssp.CredSSPError as error:
            self.server.errors.append(error)
            return self.context.last_token
        return result.output

    def reply(self, body, token=b""):
        self.send_response(200 if self.context.state is State.ESTABLISHED else 401)
        self.send_header("WWW-Authenticate", "CredSSP " + b64encode(token).decode())
        self.send_header("Content-Length", len(body))
        self.end_headers()
        self.wfile.write(body)
