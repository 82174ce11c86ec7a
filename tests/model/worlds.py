"""The worlds that are explored: who is in them, what the attacker can do there, and which properties are looked for.

TLS is assumed: two sides that are linked exchange their messages in order, and the attacker can only end that. A side
that is not linked has the attacker at the other end of its TLS connection. For a client this means that it took the
attacker's certificate for its server's, so its key is the attacker's.
"""

import dataclasses
import functools

from model import properties, symbols
from model.attacker import ALICE, MALLORY, Abilities
from model.properties import Property
from model.sides import Party, Service
from model.symbols import Random

from acredssp.core.client import ClientHandshake
from acredssp.core.server import ServerHandshake
from acredssp.credentials import Deny, Oracle
from acredssp.mechanisms.base import AskOracle, LookupCredential
from acredssp.mechanisms.negotiate import DetectingAcceptor, NegotiateInitiator
from acredssp.mechanisms.ntlm.acceptor import NTLMIdentity
from acredssp.mechanisms.ntlm.crypto import hmac_md5, nt_proof, ntowf_v2
from acredssp.policy import Policy
from acredssp.wire import ts_credentials

SERVER_KEY = b"\x30\x82 the server's key"
ATTACKERS_KEY = b"\x30\x82 run: let mallory in"
"""A key that he chose. What follows its first bytes could be a command to some other service."""
IDENTITY = NTLMIdentity("SERVER", "CONTOSO", "server.contoso.test", "contoso.test")
DELEGATED = ts_credentials.TSPasswordCreds.of("CONTOSO", "alice", "delegated secret")
_ACCOUNTS = {each.user: each for each in (ALICE, MALLORY)}


@dataclasses.dataclass(frozen=True)
class World:
    """Who is there.

    Attributes:
        name: What reports call it.
        parties: All sides.
        abilities: What the attacker can do.
        properties: What must hold.
        depth: The most messages that are delivered.
        most: The most states that are visited.
    """

    name: str
    parties: tuple[Party, ...]
    abilities: Abilities
    properties: tuple[Property, ...]
    depth: int = 12
    most: int = 100_000


@functools.cache
def policy(newest=6, floor=5):
    return Policy(max_version=newest, min_version=floor, dangerous_allow_legacy_versions=floor < 5, max_rounds=3)


def answer(event):
    """Answer as a server whose users are alice and mallory, and who lets everybody in who has logged on."""
    if isinstance(event, LookupCredential):
        return _ACCOUNTS.get(event.principal.user, Deny())
    return True


def client(name, *, key=ATTACKERS_KEY, linked="", newest=6, floor=5, trusts=True, bound=False, kerberos=False):
    """Return Alice's client, who takes the attacker for her server unless she is linked to another side."""

    def make():
        mechanism = symbols.Initiator(name, ALICE, "TERMSRV/server", key if bound else None)
        if kerberos:
            mechanism = NegotiateInitiator([symbols.TicketInitiator(name, "alice", "TERMSRV/server"), mechanism])
        return ClientHandshake(mechanism, DELEGATED, policy(newest, floor), target="", random=Random(name))

    mechanisms = frozenset({"ntlm", "kerberos"} if kerberos else {"ntlm"})
    return Party(name, make, key, linked=linked, floor=floor, user="alice", trusts=trusts, mechanisms=mechanisms)


class CarelessServer(ServerHandshake):
    """A server that does not look at what the client is bound to. There are such servers, and ours is none."""

    def _is_bound(self, value):
        return True


def server(name, *, linked="", newest=6, floor=5, careless=False, bound=False, mechanisms=("ntlm",), **how):
    """Return a server, to which anybody can connect.

    `how` may name other `answer`s to its events, and the `source` of its random bytes.
    """
    kind = CarelessServer if careless else ServerHandshake

    def make():
        ntlm = symbols.Acceptor(how.get("source", name), policy(newest, floor), IDENTITY, SERVER_KEY if bound else None)
        known = {"ntlm": ntlm, "kerberos": symbols.TicketAcceptor("TERMSRV/server")}
        mechanism = DetectingAcceptor([known[each] for each in mechanisms])
        return kind(mechanism, policy(newest, floor), authorize=True, admit=True)

    answers = how.get("answer", answer)
    allowed = frozenset(mechanisms)
    return Party(name, make, SERVER_KEY, answers, linked=linked, floor=floor, ours=not careless, mechanisms=allowed)


def service(name):
    """Return another service of the same machine, which runs the commands of users who have logged on."""

    def make():
        return Service(symbols.Acceptor(name, policy(), IDENTITY))

    return Party(name, make, b"", answer, ours=False, plain=True)


def _pair(name, **how):
    """A client and a server who talk undisturbed, so that what they do is not known to the attacker, and may end."""
    return (
        client(f"alice {name}", key=SERVER_KEY, linked=f"server {name}", **how),
        server(f"server {name}", linked=f"alice {name}", **how),
    )


def by_oracle(event):
    """Answer as a server that has each logon proven by an oracle, to which everybody unknown is a guest."""
    if isinstance(event, LookupCredential):
        return Oracle(lambda _: b"", event.principal.user, event.principal.domain)
    return proven(event.exchange) if isinstance(event, AskOracle) else True


def proven(exchange):
    """The session key of a logon, as a domain's controller gives it; zeros, as for a guest, for everybody unknown."""
    account = _ACCOUNTS.get(exchange.user)
    if account is not None:
        key = ntowf_v2(account.nt_hash, exchange.user, exchange.domain.encode("utf-16-le"))
        if nt_proof(key, exchange.server_challenge, exchange.nt_response[16:]) == exchange.nt_response[:16]:
            return hmac_md5(key, exchange.nt_response[:16])
    return bytes(16)


_ALL = (
    properties.CREDENTIALS_NEED_PROOF,
    properties.VERSION_FLOOR,
    properties.AGREEMENT,
    properties.VERSION_AGREEMENT,
    properties.NO_IMPERSONATION,
    properties.SECRECY,
    properties.MECHANISM_FLOOR,
    properties.ENDS,
)
_WITHOUT_TLS = tuple(each for each in _ALL if each is not properties.VERSION_AGREEMENT)
_HIS = Abilities(versions=(6, 5, 2), keys=(SERVER_KEY, ATTACKERS_KEY))


def relay():
    """Alice has taken the attacker for her server, and he talks to it; beside them she talks to it undisturbed."""
    return World("relay", (client("alice 1"), server("server 1"), *_pair("2")), _HIS, _ALL)


def sessions():
    """The relay, twice at once and in other versions."""
    parties = (client("alice 1"), client("alice 2", newest=5), server("server 1"), server("server 2", newest=5))
    his = dataclasses.replace(_HIS, versions=(6, 5), account=False)
    return World("sessions", parties, his, _ALL, most=20_000)


def relay_to_careless():
    """The relay, to a server that does not look at what its clients are bound to."""
    parties = (client("alice"), server("careless server", careless=True))
    his = dataclasses.replace(_HIS, versions=(6, 2), account=False)
    return World("careless-server", parties, his, _ALL)


def legacy():
    """The relay with sides that allow versions 2 to 6; beside them, two that speak version 3."""
    parties = (client("alice 1", floor=2), server("server 1", floor=2), *_pair("2", newest=3, floor=2))
    his = dataclasses.replace(_HIS, versions=(2, 3, 4, 5, 6), account=False)
    return World("versions-2-to-6", parties, his, _ALL)


def other_service(floor=5, versions=(6, 5, 2)):
    """The relay, where the machine has another service that takes logons by NTLM."""
    parties = (client("alice", floor=floor), service("service"))
    his = dataclasses.replace(_HIS, versions=versions)
    return World("other-service", parties, his, (*_ALL, properties.NOTHING_BORROWED))


def wire(*checked, source=None):
    """TLS is of no use: the attacker reads and changes everything between Alice and two servers."""
    servers = (server(name, source=source or name) for name in ("server 1", "server 2"))
    parties = (client("alice", key=SERVER_KEY), *servers)
    return World(
        "no-tls", parties, dataclasses.replace(_HIS, versions=(6, 5), account=False), (*_WITHOUT_TLS, *checked)
    )


def altered():
    """TLS is of no use, and the attacker changes NTLM's messages, too."""
    parties = (client("alice", key=SERVER_KEY), server("server"))
    his = Abilities(versions=(6,), keys=(SERVER_KEY,), edits=True)
    return World("altered-ntlm", parties, his, (*_WITHOUT_TLS, properties.NTLM_AGREEMENT))


def negotiated():
    """TLS is of no use, and the attacker changes what is negotiated: both sides have Kerberos and NTLM."""
    parties = (client("alice", key=SERVER_KEY, kerberos=True), server("server", mechanisms=("kerberos", "ntlm")))
    his = Abilities(versions=(6,), keys=(SERVER_KEY,), negotiates=True)
    return World("negotiated", parties, his, _WITHOUT_TLS)


def kerberos_alone():
    """A server takes Kerberos alone, and the attacker has a password of his own; beside them Alice has a ticket."""
    honest = (
        client("alice", key=SERVER_KEY, linked="server 2", kerberos=True),
        server("server 2", linked="alice", mechanisms=("kerberos",)),
    )
    his = Abilities(versions=(6,), keys=(SERVER_KEY,), negotiates=True)
    return World("kerberos-alone", (server("server 1", mechanisms=("kerberos",)), *honest), his, _ALL)


def bindings():
    """The relay, where both sides have channel bindings."""
    parties = (client("alice", bound=True), server("server", bound=True))
    return World("channel-bindings", parties, _HIS, (*_ALL, properties.CHANNEL_BINDINGS))


def machine(trusts=False):
    """The relay, where the attacker has a machine in the domain, and Alice's client judges certificates."""
    parties = (client("alice 1", trusts=trusts), server("server 1"), *_pair("2"))
    return World("machine-in-domain", parties, dataclasses.replace(_HIS, machine=True), _ALL)


def guest():
    """A server whose oracle takes everybody unknown for a guest, and gives a key of zeros."""
    his = dataclasses.replace(_HIS, guest=True)
    return World("guest", (server("server", answer=by_oracle),), his, _ALL)


WORLDS = {
    make().name: make
    for make in (
        relay, sessions, relay_to_careless, legacy, other_service, wire, altered, negotiated, kerberos_alone,
        bindings, machine, guest,
    )
}  # fmt: skip


def widened(world):
    """The same world with wider bounds, which are no part of the tests."""
    abilities = dataclasses.replace(world.abilities, versions=(2, 3, 4, 5, 6), account=True)
    return dataclasses.replace(world, abilities=abilities, depth=20, most=1_000_000)
