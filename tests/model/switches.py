"""The switches: each takes one protection away, and then the explorer must find what that protection is for.

A switch takes a check out of the package, chooses a weaker policy that the package names, or gives up an assumption.
"""

import dataclasses
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

from model import properties, sides, symbols, worlds

from acredssp.core import client
from acredssp.core.client import ClientHandshake
from acredssp.core.handshake import Handshake
from acredssp.core.server import ServerHandshake
from acredssp.mechanisms.negotiate import DetectingAcceptor, _Negotiate
from acredssp.mechanisms.ntlm import acceptor
from acredssp.mechanisms.ntlm.acceptor import NTLMAcceptor
from acredssp.mechanisms.ntlm.messages import NTLMv2Response


@dataclasses.dataclass(frozen=True)
class Switch:
    """One protection that is taken away.

    Attributes:
        name: What reports call it.
        says: What is taken away, in a sentence.
        breaks: The property that the explorer must find broken.
        world: Makes the world in which it is found.
        sound: Makes the same world with the protection in place, in which nothing must be found.
        off: Takes the protection away while it is entered.
    """

    name: str
    says: str
    breaks: str
    world: Callable[[], worlds.World]
    sound: Callable[[], worlds.World]
    off: Callable[[], AbstractContextManager[Any]] = nullcontext


def _without(owner, name, instead):
    return lambda: mock.patch.object(owner, name, instead)


def _any_version(handshake, version):
    """Adopt a version without looking at the policy."""
    if not handshake.version:
        handshake.peer_version = version
        handshake.version = min(handshake.policy.max_version, version)


def _any_mic(negotiate, mic):
    """Take any mechListMIC for the right one."""
    negotiate._mic_received = True


def _ntlm_too(_detecting, _token):
    """Take NTLM without SPNEGO, whatever is enabled."""
    return symbols.Acceptor("server", worlds.policy(), worlds.IDENTITY)


_ANY_PROOF = types.SimpleNamespace(compare_digest=lambda mine, theirs: len(theirs) == 32 or mine == theirs)

SWITCHES = (
    Switch(
        "client-takes-any-proof",
        "the client does not compare what the server has sealed with its key",
        "proof-before-credentials",
        worlds.relay_to_careless,
        worlds.relay_to_careless,
        _without(client, "hmac", _ANY_PROOF),
    ),
    Switch(
        "no-version-floor",
        "no side compares the peer's version with its policy",
        "version-floor",
        worlds.relay,
        worlds.relay,
        _without(Handshake, "_check_version", _any_version),
    ),
    Switch(
        "server-takes-any-binding",
        "the server does not compare what the client has sealed with its key",
        "agreement",
        worlds.relay,
        worlds.relay,
        _without(ServerHandshake, "_is_bound", lambda *_: True),
    ),
    Switch(
        "same-challenge",
        "servers send the same challenge twice",
        "agreement",
        lambda: worlds.wire(source="the same"),
        worlds.wire,
    ),
    Switch(
        "tls-not-assumed",
        "the attacker reads and changes what is inside of TLS",
        "version-agreement",
        lambda: worlds.wire(properties.VERSION_AGREEMENT),
        worlds.relay,
    ),
    Switch(
        "key-of-zeros",
        "a server takes a key of zeros from its oracle, as of a guest",
        "no-impersonation",
        worlds.guest,
        worlds.guest,
        _without(acceptor, "_NO_KEY", None),
    ),
    Switch(
        "any-certificate",
        "the policy's dangerous_accept_any_certificate is on, and the attacker has a machine in the domain",
        "secrecy",
        lambda: worlds.machine(trusts=True),
        worlds.machine,
    ),
    Switch(
        "any-mech-list-mic",
        "no side verifies SPNEGO's mechListMIC",
        "mechanism-floor",
        worlds.negotiated,
        worlds.negotiated,
        _without(_Negotiate, "_take_mic", _any_mic),
    ),
    Switch(
        "any-mechanism",
        "the server takes a mechanism that it has not enabled",
        "mechanism-floor",
        worlds.kerberos_alone,
        worlds.kerberos_alone,
        _without(DetectingAcceptor, "_detect", _ntlm_too),
    ),
    Switch(
        "no-ntlm-mic",
        "the server does not require the MIC that the client announces",
        "ntlm-messages",
        worlds.altered,
        worlds.altered,
        _without(NTLMv2Response, "mic_announced", property(lambda _: False)),
    ),
    Switch(
        "no-channel-bindings",
        "the server does not compare channel bindings",
        "channel-bindings",
        worlds.bindings,
        worlds.bindings,
        _without(NTLMAcceptor, "_check_bindings", lambda *_: None),
    ),
    Switch(
        "legacy-versions",
        "the policy's dangerous_allow_legacy_versions is on, so that versions 2 to 4 are allowed",
        "no-borrowed-seals",
        lambda: worlds.other_service(floor=2),
        worlds.other_service,
    ),
    Switch(
        "no-limit-of-rounds",
        "the client takes any number of tokens while it waits for the server's proof",
        "ends",
        worlds.relay,
        worlds.relay,
        _without(ClientHandshake, "_await_key", lambda *_: b""),
    ),
    Switch(
        "no-deadline",
        "nobody ends a handshake at its deadline",
        "ends",
        worlds.relay,
        worlds.relay,
        _without(properties, "at_the_deadline", lambda node: sides._copy(node.handshake, {})),
    ),
)
