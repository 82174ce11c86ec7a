"""Which target a connection belongs to.

The routes of a listener are asked in their order, twice. Before TLS, the client's Connection Request rules out those of
another cookie, routing token or preconnection blob (`possible`). Once the user is known, the first of the others whose
users, groups and SNI fit gives the target, or the plug-in of an `entry` does (`choose`). A route for issued tokens gets
the target that the client's token names.
"""

import dataclasses
import fnmatch
from collections.abc import Iterator, Mapping, Sequence

from acredssp import NTSTATUS
from acredssp.accounts import AccountNames, Domains
from acredssp.credentials import Account
from acredssp.hooks import Identity
from acredssp.proxy.leg import Target
from acredssp.proxy.plugin import PlugIn
from acredssp.proxy.refused import Refused
from acredssp.proxy.settings import Problems, RouteSettings
from acredssp.rdp import ConnectionRequest, RouteRequest

__all__ = ["Route", "choose", "fitting", "make_route", "possible"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route with what its settings name.

    Attributes:
        settings: Its settings.
        users: The accounts that it is for; None for every account.
        groups: The members of each group that it is for; empty for every account.
        target: The target; None with `entry`, and with `token = true` until a client's token has named it.
        entry: The plug-in that names the target; None with `target`.
    """

    settings: RouteSettings
    users: AccountNames | None
    groups: Sequence[AccountNames]
    target: Target | None
    entry: PlugIn | None

    @property
    def by_token(self) -> bool:
        """Whether it is for the tokens that the gateway issues."""
        return self.settings.token is True

    def fits_request(self, asked: RouteRequest) -> bool:
        """Whether what a client sends before TLS may lead here, a token that the gateway has issued left aside."""
        settings, request = self.settings, asked.request
        if (
            isinstance(settings.token, str)
            and request.routing_token != settings.token
            and not self._names_host(request)
        ):
            return False
        if settings.blob is not None and (asked.preconnection is None or asked.preconnection.blob != settings.blob):
            return False
        return settings.cookie is None or (request.cookie or "").casefold() == settings.cookie.casefold()

    def _names_host(self, request: ConnectionRequest) -> bool:
        """Whether a client that a farm has redirected names a host of the target, in place of the route's token."""
        return self.target is not None and self.target.pool.named(request.routing_token or "") is not None

    def fits_user(self, who: Identity, account: Account) -> bool:
        """Whether a user who has logged on may come here."""
        sni = self.settings.sni
        if sni is not None and not fnmatch.fnmatchcase(who.server_name.lower().rstrip("."), sni.lower()):
            return False
        if self.users is not None and account not in self.users:
            return False
        return not self.groups or any(account in members for members in self.groups)


def possible(routes: Sequence[Route], asked: RouteRequest, named: Target | None = None) -> list[Route]:
    """Return the routes that are left once it is known what the client sends before TLS.

    Args:
        routes: The routes.
        asked: What the client sends.
        named: The target that the client's token names, if the gateway has issued it; None without such a token.
    """
    return [
        dataclasses.replace(route, target=named) if route.by_token else route
        for route in routes
        if route.fits_request(asked) and not (route.by_token and named is None)
    ]


def fitting(routes: Sequence[Route], who: Identity, account: Account) -> Iterator[Route]:
    """Yield the routes that fit a user who has logged on.

    Raises:
        Refused: No further one fits.
    """
    for route in routes:
        if route.fits_user(who, account):
            yield route
    raise Refused("no route leads this user to a target", NTSTATUS.STATUS_LOGON_NOT_GRANTED)


async def choose(
    routes: Sequence[Route], targets: Mapping[str, Target], who: Identity, account: Account
) -> tuple[Target, Route]:
    """Return the target of a user who has logged on, and the route that leads there.

    Raises:
        Refused: No route fits, or a plug-in failed.
    """
    for route in fitting(routes, who, account):
        if route.target is not None:
            return route.target, route
        assert route.entry is not None
        if (name := await route.entry.ask(who)) is None:
            continue
        if not isinstance(name, str) or name not in targets:
            raise Refused(f"{route.entry.name} named no target of the settings", NTSTATUS.STATUS_NO_LOGON_SERVERS)
        return targets[name], route
    raise AssertionError  # `fitting` has raised `Refused`


def make_route(  # noqa: PLR0913, PLR0917 - what a route may name
    settings: RouteSettings,
    place: str,
    targets: Mapping[str, Target],
    groups: Mapping[str, Sequence[str]],
    domains: Domains,
    problems: Problems,
) -> Route:
    """Read what the settings of a route name; what is wrong is noted in `problems`."""
    entry = None
    with problems.at(f"{place}.entry"):
        entry = PlugIn(settings.entry, "the route's entry") if settings.entry else None
    return Route(
        settings=settings,
        users=AccountNames(settings.users, domains) if settings.users else None,
        groups=[AccountNames(groups[name], domains) for name in settings.groups],
        target=targets[settings.target] if settings.target else None,
        entry=entry,
    )
