"""A server over HTTP that needs no files: an ASGI application whose clients log on by CredSSP.

    python examples/http_server.py                            # the server of acredssp, at 127.0.0.1, port 5985
    python examples/http_server.py --uvicorn                  # the same application under uvicorn

It prints its address and the pin of its certificate, for a client such as that of docs/http.md. alice of CONTOSO has
the password `wonderland`. The server answers with who it is that asks, what she delegated, and what she sent.
"""

import asyncio
import ssl
import sys

import acredssp
from acredssp.hooks import CredentialRequest
from acredssp.http.asgi import CredSSPMiddleware, Receive, Scope, Send
from acredssp.http.server import start_http_server

ACCOUNTS = {acredssp.Account("alice", "CONTOSO"): acredssp.Password("wonderland")}


async def lookup(request: CredentialRequest) -> acredssp.Password | acredssp.Deny:
    """The account's password, or no logon."""
    return ACCOUNTS.get(request.principal.account, acredssp.Deny())


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Takes the body as it comes, and answers in plain."""
    who, size, more = scope["credssp"], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return  # the client has left
        size, more = size + len(message["body"]), message["more_body"]
    delegated = who.take_credentials()  # None for each further request of this connection
    kind = type(delegated).__name__ if delegated else "nothing more"
    text = f"{who.principal} by {who.mechanism} sent {size} bytes, and delegated {kind}\n"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text.encode()})


def configuration() -> tuple[acredssp.ServerConfig, str]:
    """A certificate of this run, and the accounts."""
    certificate, key = acredssp.self_signed(["localhost", "127.0.0.1"])
    context = acredssp.server_context_from_pem(acredssp.Policy(), certificate, key)
    pin = acredssp.pin_of(ssl.PEM_cert_to_DER_cert(certificate.decode()))
    return acredssp.ServerConfig(ssl_context=context, lookup=lookup), pin


async def main(host: str, port: int) -> None:
    """Serve by the server of acredssp."""
    config, pin = configuration()
    async with await start_http_server(app, host, port, config=config) as server:
        print(*server.sockets[0].getsockname(), "pin", pin, flush=True)
        await server.serve_forever()


def under_uvicorn(host: str, port: int) -> None:
    """Serve by uvicorn, whose protocol shows the middleware each request's connection."""
    import uvicorn  # noqa: PLC0415 - the extra `asgi` has it

    from acredssp.http.uvicorn import HttpToolsProtocol  # noqa: PLC0415

    config, pin = configuration()
    print(host, port, "pin", pin, flush=True)
    uvicorn.run(CredSSPMiddleware(app, config), host=host, port=port, http=HttpToolsProtocol, timeout_keep_alive=120)


def run(words: list[str]) -> None:
    """Serve as the command line says."""
    host, port = [each for each in words if each != "--uvicorn"] or ["127.0.0.1", "5985"]
    if "--uvicorn" in words:
        under_uvicorn(host, int(port))
    else:
        asyncio.run(main(host, int(port)))


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.exit(f"cannot listen: {error}")
    except ValueError:
        sys.exit("usage: http_server.py [HOST PORT] [--uvicorn]")
