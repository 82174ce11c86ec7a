"""Two ends that take turns, as over HTTP. The harness fails if a turn has no token, or takes more than one step."""

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from support.engine import answers_of, client_tls, pem, server_tls
from support.records import split

from acredssp.config import ClientConfig, ServerConfig
from acredssp.core.context import SecurityContext
from acredssp.core.events import AskOracle, LookupCredential
from acredssp.credentials import Password
from acredssp.delegation import DelegationPolicy, SPNList
from acredssp.policy import Policy
from acredssp.status import SecurityStatus
from acredssp.trust import Trust, pin_of

ALICE = Password("Passw0rd!", "alice", "CONTOSO")
SPN = "HTTP/localhost"
VERSIONS = {"tls12": ssl.TLSVersion.TLSv1_2, "tls13": ssl.TLSVersion.TLSv1_3}


@dataclass
class Side:
    """One end: its context, and the answers to its events."""

    context: SecurityContext
    answer: Callable[[object], object]
    done: bool = False
    asked: list[type] = field(default_factory=list)

    def turn(self, token: bytes) -> bytes:
        """Give a whole token to the context; return its token."""
        result = self.context.step(token)
        while result.event is not None:
            assert not result.output, "a token before the event is answered"
            self.asked.append(type(result.event))
            result = self.context.resume(result.event, self.answer(result.event))
        assert (result.missing, result.extra) == (0, 0)
        self.done = result.status is SecurityStatus.SEC_E_OK
        assert self.done or result.status is SecurityStatus.SEC_I_CONTINUE_NEEDED
        return result.output


def client_side(policy: Policy, password: Password = ALICE, *, turns: bool = True, **kwargs: object) -> Side:
    """A client that trusts the server of `server_side`."""
    certificate = ssl.PEM_cert_to_DER_cert(pem()[0].decode())
    trust = None if policy.dangerous_accept_any_certificate else Trust.pinned(pin_of(certificate))
    web = SPNList.of("HTTP/*")
    delegation = DelegationPolicy(allow_fresh_credentials=web, allow_fresh_credentials_when_ntlm_only=web)
    kwargs.setdefault("ssl_context", client_tls(policy))
    config = ClientConfig(authenticate=password, policy=policy, trust=trust, delegation=delegation, **kwargs)
    return Side(config.new_context(server_hostname="localhost", spn=SPN, turns=turns), answers_of(config))


def server_config(policy: Policy, **kwargs: object) -> ServerConfig:
    """A server that knows alice."""
    kwargs.setdefault("ssl_context", server_tls(policy))
    return ServerConfig(lookup=lambda _: ALICE, policy=policy, **kwargs)


def server_side(policy: Policy, *, turns: bool = True, **kwargs: object) -> Side:
    """One connection of such a server."""
    return Side(server_config(policy, **kwargs).new_context(turns=turns), answer_of_server)


def answer_of_server(event: object) -> object:
    """Alice's password, and yes to everything else."""
    if isinstance(event, AskOracle):
        return event.oracle.verify(event.exchange)
    return ALICE if isinstance(event, LookupCredential) else True


def take_turns(client: Side, server: Side) -> Iterator[tuple[str, bytes]]:
    """Let both talk to the end, strictly one token each; yield each token as (direction, token)."""
    token = b""
    while True:
        token = client.turn(token)
        assert token, "the client's turn has no token"
        yield "c2s", token
        token = server.turn(token)
        if client.done or server.done:
            assert client.done, "the server ends first"
            assert server.done, "the client ends first"
            assert not token, "nothing is due behind the credentials"
            return
        assert token, "the server's turn has no token"
        yield "s2c", token


def shape(token: bytes) -> list[int]:
    """The types of a token's records."""
    return [record[0] for record in split(token)]
