"""An HTTP/1.1 server on `ServerExchange`, in threads, that gives back what it was sent: sealed, as WinRM does."""

from http.server import BaseHTTPRequestHandler

from acredssp.errors import CredSSPError
from acredssp.http import Sealer, ServerExchange

PIECE = 65_536


class EchoServer(BaseHTTPRequestHandler):
    """One connection. Its server has `config`, `answer` for the events, and the lists `exchanges` and `bodies`."""

    protocol_version, timeout = "HTTP/1.1", 60

    def setup(self):
        super().setup()
        self.exchange = ServerExchange(self.server.config)
        self.server.exchanges.append(self.exchange)

    def log_message(self, *args):
        pass

    def do_POST(self):
        headers = self.headers.items()
        turn = self.exchange.receive(headers)
        while turn.event is not None:
            turn = self.exchange.resume(turn.event, self.server.answer(turn.event))
        try:
            if turn.reply is None:
                self.serve(headers)
                return
        except CredSSPError as error:
            turn = self.exchange.fail(error)
        for _ in self.pieces():
            pass
        self.close_connection = self.close_connection or turn.reply.close
        self.respond(turn.reply.status, turn.reply.headers, turn.reply.body)

    def pieces(self):
        self.left = getattr(self, "left", 0) or int(self.headers.get("Content-Length", 0))
        while self.left:
            piece = self.rfile.read(min(self.left, PIECE))
            self.left -= len(piece)
            yield piece

    def serve(self, headers):
        opener = self.exchange.opener(headers)
        body = b"".join([opener.feed(piece) for piece in self.pieces()])
        opener.finish()
        self.server.bodies.append(len(body))
        body = b"" if body == b"nothing" else body
        sealer = Sealer(self.exchange.context, len(body), opener.content_type)
        sealed = sealer.feed(body) + sealer.finish()
        self.respond(200, [("Content-Type", sealer.media_type), ("Content-Length", str(len(sealed)))], sealed)

    def respond(self, status, headers, body):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
