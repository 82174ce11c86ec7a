"""The attacks of tests/hostile on the engine, made again on both sides of a gateway with relays.

Each test of tests/hostile that lets two ends talk through an attacker is run here with some of its parameters. What the
attacker does is noted, and done again: once to a client's conversation with the gateway, once to the gateway's with its
target. Nobody may come through there who does not come through to the engine alone. `ELSEWHERE` says of every other
test why it is not among these.
"""

import asyncio
import contextlib
import dataclasses
import functools
import importlib
import inspect
import itertools
import ssl
from pathlib import Path

import pytest
from support.bad_peers import CONFIRM, REQUEST
from support.endpoints import CERTIFICATE, server_config
from support.engine import End, pem
from support.gateway import BOB, leave
from support.logon import ALICE, attack, client, established, server, tls_peer
from support.puppets import come_up
from support.relays import among_relays, in_turns

import acredssp
from acredssp import rdp
from acredssp.config import ServerConfig
from acredssp.core.tls import TLSSession
from acredssp.policy import MechanismChoice
from acredssp.wire.x509 import subject_public_key

MODULES = sorted(path.stem for path in (Path(__file__).parents[1] / "hostile").glob("test_*.py"))
CAME_IN = {"relayed", "no_session"}
"""What the records have of those who logged on at the target."""
MOST_PARAMETERS, MOST_ATTACKS = 5, 2
"""Of each test, some sets of parameters; of each of these, some attacks: from the whole list by a fixed stride."""


def every_test():
    """Every test of tests/hostile, as (name, function, module)."""
    for name in MODULES:
        module = importlib.import_module(f"hostile.{name}")
        for each, function in inspect.getmembers(module, inspect.isfunction):
            if each.startswith("test_"):
                yield f"{name}::{each}", function, module


def spread(items, most):
    """Some of the items, with a fixed stride."""
    return items[:: max(1, len(items) // most)][:most]


def parameters(function):
    """Some of the sets of arguments that a test is run with."""
    ways = []
    for mark in getattr(function, "pytestmark", []):
        if mark.name == "parametrize":
            names, values = mark.args[:2]
            names = [names] if isinstance(names, str) and "," not in names else names
            ways.append([dict(zip(names, [each] if len(names) == 1 else each, strict=True)) for each in values])
    sets = [dict(itertools.chain(*(each.items() for each in chosen))) for chosen in itertools.product(*ways)]
    return spread(sets, MOST_PARAMETERS)


def attacks():
    """What attackers do in these tests to ends without TLS, as (name, policy, tamper, (client, server)).

    The last says whether the client, and the server, takes it for a success.
    """
    found = []
    for name, function, module in every_test():
        if (
            name in ELSEWHERE
            or "attack" not in vars(module)
            or "hypothesis" in vars(function)
            or inspect.iscoroutinefunction(function)
        ):
            continue
        for arguments in parameters(function):
            found += [(name, *each) for each in spread(_noted(function, module, arguments), MOST_ATTACKS)]
    return found


def _noted(function, module, arguments):
    noted = []

    def note(*args):
        attack(*args)
        bare = getattr(args[0].context, "tls", args) is None
        if len(args) == 3 and bare and args[1].answer.__qualname__ == "server.<locals>.answer":
            noted.append((args[0].context.handshake.policy, args[2], tuple(map(established, args[:2]))))

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(TypeError):  # a test that wants fixtures
        patch.setattr(module, "attack", note)
        function(**arguments)
    return noted


@dataclasses.dataclass
class Conversation:
    """One side of a conversation inside TLS, on which an attacker works.

    Args:
        end: A whole client or server of our own.
        tls: Its TLS.
        tamper: The attacker.
    """

    end: End
    tls: TLSSession
    tamper: object
    changed: bool = False
    number: int = 0

    async def lead(self, reader, writer, said, ways):
        """Speak and hear in turns until the end has come through or the conversation has ended."""
        data = b""
        with contextlib.suppress(OSError, acredssp.CredSSPError):
            while True:
                if said:
                    self.tls.write(self._tampered(ways[0], said))
                    writer.write(self.tls.output())
                if self.end.done and ways[0] == "c2s":
                    return
                heard, said = self.tls.read(data), b""  # something may have come with the last words of TLS itself
                if heard:
                    said, data = self.end.step(self._tampered(ways[1], heard)), b""
                elif not (data := await reader.read(65_536)):
                    return

    def _tampered(self, way, flight):
        made = bytes(self.tamper(self.number, way, flight))
        self.number += 1
        self.changed |= made != flight
        return made


async def as_client(world, policy, tamper):
    """Attack the gateway's conversation with a client; whether anything was changed, and the client's address."""
    reader, writer = await asyncio.open_connection(*world.address)
    try:
        writer.write(REQUEST)
        await rdp.read_negotiation(reader)
        end = client(policy, bare=True)
        talk = Conversation(end, tls_peer(server_side=False), tamper)
        await come_up(talk.tls, reader, writer)
        await talk.lead(reader, writer, end.step(b""), ("c2s", "s2c"))
        return talk.changed, writer.get_extra_info("sockname")
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class Attacked:
    """A target whose conversations with the gateway attackers work on, each by its correlation id."""

    def __init__(self, noted):
        self._noted = noted
        self.changed = 0
        self._key = subject_public_key(ssl.PEM_cert_to_DER_cert(CERTIFICATE.decode()))
        self._context = server_config().ssl_context

    async def serve(self, reader, writer):
        with contextlib.suppress(OSError, EOFError):
            request = rdp.ConnectionRequest.decode(await rdp.read_negotiation(reader))
            writer.write(CONFIRM)
            _, policy, tamper, _ = self._noted[int(request.correlation_id[1:])]
            config = ServerConfig(ssl_context=self._context, lookup=lambda _: ALICE, policy=policy)
            end = End(config.new_bare_context(public_key=self._key), server(policy, bare=True).answer)
            talk = Conversation(end, TLSSession(self._context, server_side=True), tamper)
            await come_up(talk.tls, reader, writer, await reader.read(65_536))
            await talk.lead(reader, writer, b"", ("s2c", "c2s"))
            self.changed += talk.changed
        writer.transport.abort()


@pytest.fixture
def prepared(folder):
    """The folder with the certificate and the user of tests/hostile, and what attackers do there."""
    for name, data in zip(("gateway.pem", "gateway.key"), pem("rsa"), strict=True):
        (folder / name).write_bytes(data)
    (folder / "users").write_text("CONTOSO:alice:Passw0rd!\n:bob:b0bs\n", encoding="utf-8")
    return folder, noted()


@functools.cache
def noted():
    return attacks()


@pytest.mark.requirement("defect.one-for-all")
async def test_attacks_on_the_engine_do_no_better_on_the_front_of_a_gateway(prepared):
    folder, noted = prepared
    async with among_relays(folder, who=BOB, listener="handshake_timeout = 8\n") as (world, _):
        made = await in_turns(lambda each: as_client(world, *each[1:3]), noted)
        records = {record.peer: record for record in await world.until_ended(len(noted))}
        through = 0
        for (name, _, _, (_, passes)), (_, address) in zip(noted, made, strict=True):
            asked = records[address].reason.startswith("target desktops at ")  # which knows another password
            assert passes or not asked, name
            through += asked
            assert records[address].outcome not in CAME_IN, name
            assert records[address].reason, name
    assert through > 0
    assert sum(changed for changed, _ in made) > len(noted) // 2


@pytest.mark.requirement("defect.one-for-all")
async def test_attacks_on_the_engine_do_no_better_on_the_target_leg_of_a_gateway(prepared):
    folder, noted = prepared
    noted = [each for each in noted if each[1].mechanism is MechanismChoice.NTLM]  # the leg speaks no other here
    bad = Attacked(noted)
    listening = await asyncio.start_server(bad.serve, "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()
    places, more = {"bad": f"{host}:{port}"}, "check = { enabled = false }\n"
    try:
        async with among_relays(folder, places, who=BOB, more=more) as (world, _):

            async def come(number):
                name = f"n{number:015}".encode()
                try:
                    await leave(await world.connect(ALICE, routing_token="bad", correlation_id=name))
                except (OSError, acredssp.CredSSPError):
                    return False
                return True

            came = await in_turns(come, range(len(noted)))
            records = await world.until_ended(len(noted))
            for (name, _, _, (passes, _)), through in zip(noted, came, strict=True):
                assert passes or not through, name
            assert sum(record.outcome in CAME_IN for record in records) == sum(came) > 0
            assert all(record.reason for record in records)
            assert {record.target for record in records} == {"bad"}
    finally:
        listening.close()
    assert bad.changed > len(noted) // 2


# --- the list ---

_TLS = "tricks with TLS itself, which ends in the same place on every leg; tests/proxy/test_hostile_bytes.py changes it"
_PEER = "a bad peer of tests/support/bad_peers.py says the same to both sides of a gateway"
_NTLM = "a hand-made NTLM message, which only the engine reads; the front has no lookup but the users file"
_ENGINE = "a property of the engine or of its hooks, and nothing that a peer sends"
_PROOF = "said to a client of ours; tests/proxy/test_hostile_bytes.py has every byte of a target's answers changed"
_MIDDLE = "tests/proxy/test_hostile_middle.py has a man in the middle on each leg"
_OLD = "nothing of a recording fits a new key of TLS"
ELSEWHERE = {
    "test_cancellation": "no attack: each part of the package, those of the gateway too, is cancelled there itself",
    "test_channel": _TLS,
    "test_comparisons": _ENGINE,
    "test_breaking": "connections that break, those of a gateway among them",
    "test_canaries": "what programs show of their secrets, a gateway among them",
    "test_remembered": "the memory of a client and of a server, in processes of their own",
    "test_descriptors": "a server without descriptors, in a process of its own",
    "test_faults": "no attack: what each part of the package asks of others fails there itself",
    "test_impostors": _NTLM,
    "test_impostors::test_key_before_any_logon": _PEER,
    "test_impostors::test_credentials_in_place_of_everything": _PEER,
    "test_impostors::test_lookup_that_gives_no_secret": _ENGINE,
    "test_impostors::test_only_true_lets_in": _ENGINE,
    "test_impostors::test_key_of_another_channel": _MIDDLE,
    "test_kinds_of_input::test_a_request_in_derived_bytes_is_decoded_to_the_same": _ENGINE,
    "test_kinds_of_input::test_so_does_one_over_tls": _ENGINE,
    "test_malformed::test_a_conversation_left_alone_succeeds": "no attack",
    "test_malformed::test_any_byte_replaced_by_what_means_something_as_a_length": "which byte it is depends on names; "
    "tests/proxy/test_hostile_bytes.py changes every byte",
    "test_malformed::test_any_message_made_of_parts_of_others": "random",
    "test_malformed::test_any_mutation_of_any_message": "random; a fixed sample is made elsewhere",
    "test_malformed::test_challenge_with_a_domain_of_64_kib_is_refused_or_answered": _PROOF,
    "test_malformed::test_first_spnego_token_that_names_no_mechanism_of_ours": _PEER,
    "test_malformed::test_giant_credentials_are_taken_whole_up_to_the_limit_and_no_further": _ENGINE,
    "test_malformed::test_length_that_no_message_has": _PEER,
    "test_malformed::test_message_cut_at_any_byte_is_waited_for": "tests/proxy/test_hostile_bytes.py cuts everywhere",
    "test_malformed::test_message_past_the_policys_limit_is_refused_by_its_header_alone": _PEER,
    "test_malformed::test_negoex_is_passed_over_unread": _ENGINE,
    "test_malformed::test_sealed_credentials_that_lie": "only the engine reads what is inside the seal",
    "test_man_in_the_middle::test_client_talking_to_itself_authenticates_nobody": _MIDDLE,
    "test_man_in_the_middle::test_own_value_sent_back_is_no_proof": _PROOF,
    "test_man_in_the_middle::test_proof_that_is_sealed_rightly_and_says_something_else": _PROOF,
    "test_man_in_the_middle::test_proof_that_opens_with_no_key": _PROOF,
    "test_man_in_the_middle::test_recorded_client_cannot_be_played_again": _OLD,
    "test_man_in_the_middle::test_recorded_server_cannot_be_played_again": _OLD,
    "test_man_in_the_middle::test_relay_is_noticed_by_the_certificate_before_anything_of_the_logon": _MIDDLE,
    "test_man_in_the_middle::test_relay_with_another_key_fails_before_credentials_at_every_version": _MIDDLE,
    "test_man_in_the_middle::test_relay_with_another_key_gets_no_credential_at_any_level_of_the_policy": _MIDDLE,
    "test_man_in_the_middle::test_server_that_only_ever_sends_tokens": _PROOF,
    "test_man_in_the_middle::test_server_that_skips_its_proof": _PROOF,
    "test_man_in_the_middle::test_versions_that_can_be_relayed_are_refused_unless_asked_for": _PEER,
    "test_resources": "measured on the engine; tests/proxy/test_hostile_bytes.py counts what a gateway keeps",
    "test_server": _PEER,
}
"""Why a test of tests/hostile, or all those of a module, are not among those that are run here."""


@pytest.mark.thorough
def test_every_attack_is_made_on_a_gateway_or_says_why_not():
    made = {name for name, *_ in noted()}
    names = {name for name, _, _ in every_test()}
    silent = {name for name in names - made if not ELSEWHERE.keys() & {name, name.partition("::")[0]}}
    assert not silent, "run it on a gateway, or say in ELSEWHERE why not"
    assert not ELSEWHERE.keys() - names - {name.partition("::")[0] for name in names}
    assert not ELSEWHERE.keys() & made
    assert len(made) > 10
