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
import ssl
from collections.abc import Callable, Collection
from typing import Annotated, Any, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from acredssp import Policy, server_context
from acredssp.accounts import Domains
from acredssp.proxy.settings import Problems, RDPFileSettings, Settings
from acredssp.proxy.tokens import TokenOrder
from acredssp.rdp_file import FileSigner, rdp_file
from acredssp.stores import Entry, Kick, Store, StoreError, entries_of

__all__ = ["Access", "Broker", "read_api", "signer_of"]

_Model = TypeVar("_Model", bound=BaseModel)
_Answer = Callable[[web.Request], Any]

_logger = logging.getLogger("acredssp.proxy.api")

_MOST_BYTES: Final = 16_384
_SHORTEST_SECRET: Final = 16
_RDP_FILE: Final = "application/x-rdp"


class _KickOrder(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, strict=True)

    user: Annotated[str, Field(min_length=1, max_length=256)]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the settings of the API name.

    Attributes:
        secret: What every request must carry.
        context: TLS; None for none.
        gateway: The gateway's address in .rdp files, as clients reach it; empty for no .rdp files.
        signer: Signs .rdp files; None for no signature.
    """

    secret: str = dataclasses.field(repr=False)
    context: ssl.SSLContext | None = None
    gateway: str = ""
    signer: FileSigner | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """What the API acts on, as it is at the moment of a request.

    Attributes:
        store: Gives the store.
        targets: Gives the names of the targets that there are.
        access: Gives who may ask, and how files are made.
        domains: Gives which suffixes are which domains, of each listener.
    """

    store: Callable[[], Store]
    targets: Callable[[], Collection[str]]
    access: Callable[[], Access]
    domains: Callable[[], Collection[Domains]]

    async def issue(self, request: web.Request) -> web.Response:
        """Issue a token."""
        order = await _read(request, TokenOrder)
        if order.target not in self.targets():
            raise _refusal(web.HTTPBadRequest, "target: no such target")
        access, as_file = self.access(), _RDP_FILE in request.headers.get("Accept", "")
        if as_file and not access.gateway:
            raise _refusal(web.HTTPNotAcceptable, "there are no .rdp files without [rdp_file] in the settings")
        token = await order.issue(self.store())
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
        entries: list[Entry] = await self.store().entries()
        if user := request.query.get("user"):
            entries = entries_of(entries, user, self.domains())
        return web.json_response({"connections": [dataclasses.asdict(entry) for entry in entries]})

    async def end(self, request: web.Request) -> web.Response:
        """End one connection."""
        identity = request.match_info["id"]
        if all(entry.id != identity for entry in await self.store().entries()):
            raise _refusal(web.HTTPNotFound, "no such connection")
        await self.store().kick(Kick(connection=identity))
        return web.json_response({"ending": identity}, status=202)

    async def kick(self, request: web.Request) -> web.Response:
        """End the connections of a user."""
        order = await _read(request, _KickOrder)
        await self.store().kick(Kick(user=order.user))
        return web.json_response({"kicked": order.user}, status=202)

    def app(self) -> web.Application:
        """Return the application."""

        @web.middleware
        async def guard(request: web.Request, handler: _Answer) -> web.StreamResponse:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            # Digests are of one length, so that the time tells nothing of the secret's.
            right = hmac.compare_digest(_digest(given), _digest(self.access().secret))
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


def read_api(settings: Settings, problems: Problems) -> Access | None:
    """Read what `[api]` and `[rdp_file]` name; None for no API, and where something was noted in `problems`."""
    api, files, secret, context = settings.api, settings.rdp_file, "", None
    signer = signer_of(files, problems) if files else None
    if api is None:
        return None
    with problems.at("api.secret"):
        secret = api.secret.read()
        if len(secret) < _SHORTEST_SECRET:
            raise ValueError(f"expected a secret of at least {_SHORTEST_SECRET} characters")
    with problems.at("api.certificate"):
        if api.certificate is not None and api.key is not None:
            context = server_context(Policy(), str(api.certificate), str(api.key))
    return Access(secret=secret, context=context, gateway=files.address if files else "", signer=signer)


async def _read(request: web.Request, model: type[_Model]) -> _Model:
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as error:
        faults = error.errors(include_input=False)
        places = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}".removeprefix(": ") for each in faults)
        raise _refusal(web.HTTPBadRequest, "; ".join(places)) from None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def _refusal(kind: type[web.HTTPError], text: str, headers: dict[str, str] | None = None) -> web.HTTPError:
    return kind(text=json.dumps({"error": text}), content_type="application/json", headers=headers)


def signer_of(settings: RDPFileSettings, problems: Problems) -> FileSigner | None:
    """Return the signer that settings name; None for none, and where something was noted in `problems`."""
    with problems.at("rdp_file.certificate"):
        if settings.certificate is not None and settings.key is not None:
            return FileSigner.from_pem(settings.certificate.read_bytes(), settings.key.read_bytes())
    return None
