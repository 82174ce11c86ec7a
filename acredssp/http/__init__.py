"""CredSSP over HTTP, as WinRM carries it: the logon in headers, and the sealed bodies, without I/O.

Clients on asyncio are `acredssp.http.httpx`, `acredssp.http.httpx2` and `acredssp.http.aiohttp`, each with its library.
Of this module they need nothing but the names of options and errors.

`ClientExchange` and `ServerExchange` are the two sides of a logon, one for each TCP connection. `Sealer` and `Opener`
protect bodies of any size as streams; `seal_body` and `open_body` take whole ones. docs/http.md goes through it.
"""

from acredssp.http.acceptor import ServerExchange, ServerTurn
from acredssp.http.client import ClientOptions
from acredssp.http.envelope import is_sealed
from acredssp.http.errors import HTTPProtocolError, PoolTimeout
from acredssp.http.headers import Challenge, Headers, challenges
from acredssp.http.initiator import ClientExchange, ClientTurn
from acredssp.http.opening import Opener, open_body
from acredssp.http.replies import Reply
from acredssp.http.sealing import Sealer, seal_body

__all__ = [
    "Challenge",
    "ClientExchange",
    "ClientOptions",
    "ClientTurn",
    "HTTPProtocolError",
    "Headers",
    "Opener",
    "PoolTimeout",
    "Reply",
    "Sealer",
    "ServerExchange",
    "ServerTurn",
    "challenges",
    "is_sealed",
    "open_body",
    "seal_body",
]
