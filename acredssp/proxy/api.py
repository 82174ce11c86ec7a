"""The HTTP API for brokers: issue tokens, and see and end connections of all nodes.

    POST   /v1/tokens              a `TokenOrder` in JSON; gives the token, and the .rdp file with it where asked for
    GET    /v1/connections         the directory; `?user=NAME` for those of one user
    DELETE /v1/connections/ID      ends one
    POST   /v1/kick                {"user": NAME}: ends all of a user's, and makes the user's tokens void

Every request carries `Authorization: Bearer SECRET`. Who has the secret can let anybody in anywhere, as far as the
logon allows. So the API listens on loopback alone, or with TLS. While the store is away, it answers 503.
"""

import dataclasses
import hashlib
import hmac
import json
import logging
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from acredssp.proxy.plan import Access, Plan
from acredssp.proxy.settings import in_words
from acredssp.proxy.tokens import TokenOrder
from acredssp.rdp_file import rdp_file
from acredssp.stores import Entry, Kick, Node, StoreError, entries_of

__all__ = ["Broker"]

_Model = TypeVar("_Model", bound=BaseModel)
_Answer = Callable[[web.Request], Any]

_logger = logging.getLogger("acredssp.proxy.api")

_MOST_BYTES: Final = 16_384
_RDP_FILE: Final = "application/x-rdp"


class _KickOrder(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)

    user: Annotated[str, Field(min_length=1, max_length=256)]


@dataclasses.dataclass(frozen=True, slots=True)
class Broker:
    """What the API acts on.

    Attributes:
        node: Has the store.
        plan: Gives the plan of the moment, which has an API.
    """

    node: Node
    plan: Callable[[], Plan]

    @property
    def access(self) -> Access:
        """Who may ask, and how files are made."""
        access = self.plan().api
        assert access is not None
        return access

    async def issue(self, request: web.Request) -> web.Response:
        """Issue a token."""
        order = await _read(request, TokenOrder, lambda order: order.check(self.plan().settings.targets))
        access, as_file = self.access, _RDP_FILE in request.headers.get("Accept", "")
        if as_file and not access.gateway:
            raise _refusal(web.HTTPNotAcceptable, "there are no .rdp files without [rdp_file] in the settings")
        token = await order.issue(self.node.store)
        _logger.info(
            "issued a token for a user of target %s, %d uses in %g seconds", order.target, order.uses, order.ttl
        )
        if as_file:
            content = rdp_file(access.gateway, token, order.user, access.signer)
            disposition = {"Content-Disposition": 'attachment; filename="gateway.rdp"', "Cache-Control": "no-store"}
            return web.Response(body=content, status=201, content_type=_RDP_FILE, headers=disposition)
        body = {"loadbalanceinfo": token, "expires_in": order.ttl}
        return web.json_response(body, status=201, headers={"Cache-Control": "no-store"})

    async def connections(self, request: web.Request) -> web.Response:
        """List connections."""
        user = request.query.get("user")
        if user is not None and not user.strip():
            raise _refusal(web.HTTPBadRequest, "user: expected a name, got none")
        entries: list[Entry] = await self.node.store.entries()
        if user is not None:
            entries = entries_of(entries, user, [each.domains for each in self.plan().listeners.values()])
        return web.json_response({"connections": [dataclasses.asdict(entry) for entry in entries]})

    async def end(self, request: web.Request) -> web.Response:
        """End one connection."""
        identity = request.match_info["id"]
        if all(entry.id != identity for entry in await self.node.store.entries()):
            raise _refusal(web.HTTPNotFound, "no such connection")
        await self.node.store.kick(Kick(connection=identity))
        return web.json_response({"ending": identity}, status=202)

    async def kick(self, request: web.Request) -> web.Response:
        """End the connections of a user."""
        order = await _read(request, _KickOrder)
        await self.node.store.kick(Kick(user=order.user))
        return web.json_response({"kicked": order.user}, status=202)

    def app(self) -> web.Application:
        """Return the application."""

        @web.middleware
        async def guard(request: web.Request, handler: _Answer) -> web.StreamResponse:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            # Digests are of one length, so that the time tells nothing of the secret's.
            right = hmac.compare_digest(_digest(given), _digest(self.access.secret))
            if not right or scheme.lower() != "bearer":
                raise _refusal(web.HTTPUnauthorized, "expected the API's secret", {"WWW-Authenticate": "Bearer"})
            try:
                response: web.StreamResponse = await handler(request)
            except StoreError as error:
                raise _refusal(web.HTTPServiceUnavailable, str(error)) from None
            return response

        app = web.Application(middlewares=[guard], client_max_size=_MOST_BYTES)
        app.add_routes([
            web.post("/v1/tokens", self.issue),
            web.get("/v1/connections", self.connections),
            web.delete("/v1/connections/{id}", self.end),
            web.post("/v1/kick", self.kick),
        ])  # fmt: skip
        return app


async def _read(request: web.Request, model: type[_Model], check: Callable[[_Model], None] = lambda _: None) -> _Model:
    try:
        order = model.model_validate_json(await request.read())
        check(order)
    except ValueError as error:
        raise _refusal(web.HTTPBadRequest, "; ".join(in_words(error))) from None
    return order


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _refusal(kind: type[web.HTTPError], text: str, headers: dict[str, str] | None = None) -> web.HTTPError:
    return kind(text=json.dumps({"error": text}), content_type="application/json", headers=headers)
