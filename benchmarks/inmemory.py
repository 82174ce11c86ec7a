"""The engine's CPU in memory, compared with bare TLS and pyspnego: both sides in one thread, a few handshakes in turn.

A round's figure is the median of its handshakes. A disturbed handshake does not move it, nor does the first one of a
turn, which finds the processor's caches as another peer has left them. The median leaves out the garbage collector, for
all peers alike; the rows in instructions include it.
"""

import asyncio
import random
import statistics

import acredssp
from acredssp.policy import MechanismChoice
from benchmarks import facade, pyspnego
from benchmarks.harness import Figure, Results, Row, Size, Watch, ratios, settle
from benchmarks.peers import NAME, Cost, KeyType, Peer, Rounds, Setting, handshake, row_over_tls

NTLM, NEGOTIATE = MechanismChoice.NTLM, MechanismChoice.NEGOTIATE

SETTINGS: tuple[tuple[KeyType, str], ...] = (("rsa", "1.3"), ("rsa", "1.2"), ("ec", "1.3"), ("ec", "1.2"))

GOALS = {
    ("rsa", "1.3", "NTLM"): (1.35, 1.30),
    ("rsa", "1.3", "SPNEGO"): (1.45, 1.35),
    ("ec", "1.3", "NTLM"): (1.50, 1.45),
    ("ec", "1.3", "SPNEGO"): (1.65, 1.50),
    ("ec", "1.2", "NTLM"): (1.50, 1.45),
    ("ec", "1.2", "SPNEGO"): (1.65, 1.50),
}
"""The goal, and the figure to reach one day, for the engine's CPU divided by that of bare TLS."""

PYSPNEGO_GOALS = {"tuned": (2.2, 2.5), "shared": (3.7, 4.0), "default": (5.2, 5.5)}
SERVER_GOAL = 1.35
MESSAGES = {"NTLM": (4, 3), "SPNEGO": (5, 4)}
"""The flights from client to server and from server to client, in TLS 1.3."""

TURN = 5
"""The handshakes of one peer in a turn."""


def measure(size: Size, results: Results, watch: Watch) -> None:
    for kind, version in SETTINGS:
        watch.step(f"in memory: {kind}, TLS {version}")
        setting = Setting.of(acredssp.self_signed([NAME], kind), version)
        peers = {"TLS": setting.bare_tls(), "NTLM": setting.acredssp(NTLM), "SPNEGO": setting.acredssp(NEGOTIATE)}
        rounds = take_turns(peers, size)
        results.rows += over_tls(rounds, kind, version)
        results.details.setdefault("in memory", {})[f"{kind} {version}"] = microseconds(rounds)
        if (kind, version) == ("rsa", "1.3"):
            # pyspnego runs apart and in long turns, since it leaves little in the caches that others need.
            beside = {f"pyspnego {variant}": pyspnego.peer(setting, variant) for variant in pyspnego.VARIANTS}
            with pyspnego.users():
                results.rows += under_pyspnego(take_turns({"SPNEGO": peers["SPNEGO"]} | beside, size, size.handshakes))
            results.rows += messages(rounds)
            results.rows += exchange_alone(setting, size)
        watch.done()


def take_turns(peers: dict[str, Peer], size: Size, turn: int = TURN) -> Rounds:
    """Run the rounds; the first is dropped. Turns come in a new order each time, the same in every run."""
    rounds: Rounds = []
    order, shuffle = list(peers), random.Random(0).shuffle  # noqa: S311 - no secret
    for _ in range(size.rounds + 1):
        settle()
        costs: dict[str, list[Cost]] = {name: [] for name in peers}
        for _ in range(max(1, size.handshakes // turn)):
            shuffle(order)
            for name in order:
                costs[name] += [handshake(peers[name]) for _ in range(turn)]
        rounds.append({name: median(each) for name, each in costs.items()})
    return rounds[1:]


def median(costs: list[Cost]) -> Cost:
    """Return the median of each side."""
    return Cost(
        statistics.median(cost.client for cost in costs),
        statistics.median(cost.server for cost in costs),
        costs[0].to_server,
        costs[0].to_client,
    )


def over_tls(rounds: Rounds, kind: KeyType, version: str) -> list[Row]:
    rows = []
    name = {"rsa": "RSA-2048", "ec": "P-256"}[kind]
    for mechanism in ("NTLM", "SPNEGO"):
        goal, reach = GOALS.get((kind, version, mechanism), (None, None))
        for side in ("both", "client", "server"):
            what = {"both": "both sides", "client": "client alone", "server": "server alone"}[side]
            if side != "both":
                goal, reach = (SERVER_GOAL if (kind, side) == ("rsa", "server") else None), None
            rows.append(
                row_over_tls(
                    rounds,
                    mechanism,
                    side,
                    key=f"cpu.{kind}.{version}.{mechanism.lower()}.{side}",
                    what=f"CPU over bare TLS, {name}, TLS {version}, {mechanism}, {what}",
                    goal=goal,
                    reach=reach,
                )
            )
    return rows


def under_pyspnego(rounds: Rounds) -> list[Row]:
    both = [{name: cost.both for name, cost in each.items()} for each in rounds]
    return [
        Row(
            key=f"pyspnego.{variant}",
            what=f"pyspnego's CPU over ours, {variant}, RSA-2048, TLS 1.3, SPNEGO",
            figure=ratios(both, f"pyspnego {variant}", "SPNEGO"),
            goal=PYSPNEGO_GOALS[variant][0],
            reach=PYSPNEGO_GOALS[variant][1],
            at_most=False,
            note="two tickets" if variant == "default" else "",
        )
        for variant in pyspnego.VARIANTS
    ]


def messages(rounds: Rounds) -> list[Row]:
    rows = []
    for mechanism, (to_server, to_client) in MESSAGES.items():
        for way, key, goal in (
            ("client to server", "to_server", to_server),
            ("server to client", "to_client", to_client),
        ):
            figure = Figure.of(getattr(each[mechanism], key) for each in rounds)
            rows.append(
                Row(
                    key=f"messages.{mechanism.lower()}.{key}",
                    what=f"messages {way}, TLS 1.3, {mechanism}",
                    figure=figure,
                    goal=goal,
                    unit="",
                )
            )
    return rows


def exchange_alone(setting: Setting, size: Size) -> list[Row]:
    """Return what the exchange takes without TLS around it: alone, and behind a TLS handshake that fills the caches."""
    exchange, tls = setting.exchange(NEGOTIATE), setting.bare_tls()
    warm, cold = [], []
    for _ in range(size.rounds + 1):
        settle()
        alone = median([handshake(exchange) for _ in range(size.handshakes)]).both
        in_turns = [(handshake(tls), handshake(exchange)) for _ in range(size.handshakes)]
        floor, behind = (median([pair[which] for pair in in_turns]).both for which in (0, 1))
        warm.append(alone / floor)
        cold.append(behind / floor)
    what = "CPU of the exchange without TLS over bare TLS, RSA-2048, SPNEGO, both sides"
    return [
        Row(key="exchange.alone", what=f"{what}, one after the other", figure=Figure.of(warm[1:])),
        Row(key="exchange.behind", what=f"{what}, each behind a TLS handshake", figure=Figure.of(cold[1:])),
    ]


def microseconds(rounds: Rounds) -> dict[str, dict[str, float]]:
    """Return absolute times, which hold only for this machine and this moment."""
    return {
        name: {
            side: round(statistics.median(getattr(each[name], side) for each in rounds) * 1e6, 1)
            for side in ("client", "server", "both")
        }
        for name in rounds[0]
    }


# --- the SSPI functions over the engine ---


def measure_facade(size: Size, results: Results, watch: Watch) -> None:
    for kind in ("rsa", "ec"):
        watch.step(f"SSPI functions over the engine: {kind}")
        settle()
        found = asyncio.run(facade.measure(acredssp.self_signed([NAME], kind), size.rounds))
        results.rows.append(
            Row(
                key=f"facade.{kind}",
                what=f"SSPI functions over the engine, {'RSA-2048' if kind == 'rsa' else 'P-256'}, raw NTLM",
                figure=Figure.of(found),
                goal=facade.GOAL,
            )
        )
        watch.done()
