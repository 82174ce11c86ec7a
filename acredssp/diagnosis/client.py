"""What `probe --listen` has learned of a client, and the findings that follow from it."""

import dataclasses
from collections.abc import Iterator
from typing import Final

from acredssp.diagnosis.catalogue import Finding, found
from acredssp.diagnosis.questions import FirstToken
from acredssp.policy import FIRST_SAFE_VERSION
from acredssp.wire.x224 import ConnectionRequest, Protocols

__all__ = ["ClientFacts", "judge_client"]

_OLD: Final = ("TLSv1", "TLSv1.1")


@dataclasses.dataclass(slots=True)
class ClientFacts:
    """What a probe has learned of one client. Whatever it has not come to is empty.

    Attributes:
        peer: The client's address.
        request: Its Connection Request.
        tls_version: The version of TLS that both chose.
        cipher: OpenSSL's name of the suite that both chose.
        server_name: The name that it asks for by SNI.
        token: Its first message of CredSSP.
        stage: Where the connection ended: `"negotiation"`, `"tls"`, `"credssp"` or `"done"`.
        problem: Why it ended there.
        unreadable: Whether something came there that cannot be read, rather than nothing or not enough.
    """

    peer: str
    request: ConnectionRequest | None = None
    tls_version: str = ""
    cipher: str = ""
    server_name: str = ""
    token: FirstToken | None = None
    stage: str = "negotiation"
    problem: str = ""
    unreadable: bool = False


def judge_client(facts: ClientFacts) -> list[Finding]:
    """Return the findings of a client, the worst first."""
    return sorted(_of_client(facts), key=lambda each: -each.severity.rank)


def _of_client(facts: ClientFacts) -> Iterator[Finding]:
    request, token = facts.request, facts.token
    if request is None:
        yield found("client-not-rdp" if facts.unreadable else "client-silent", address=facts.peer, what=facts.problem)
        return
    protocols = request.requested_protocols or Protocols.RDP
    if not protocols & (Protocols.HYBRID | Protocols.HYBRID_EX):
        yield found("client-no-nla", protocols=protocols.names)
    if request.cookie:
        yield found("client-user-in-clear", cookie=request.cookie)
    if facts.stage == "tls":
        yield found("client-tls-failed", answer=facts.problem)
    elif facts.stage == "credssp":
        yield found("client-malformed" if facts.unreadable else "client-sent-nothing", what=facts.problem)
    if facts.tls_version in _OLD:
        yield found("client-tls-old", version=facts.tls_version)
    if token is not None:
        if token.version < FIRST_SAFE_VERSION:
            yield found("client-credssp-old", version=token.version)
        if token.mechanisms == ("ntlm",):
            yield found("client-ntlm-only")
