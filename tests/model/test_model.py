"""The model: no world breaks a property, and with each switch one is broken, by the attack that it protects from."""

import re
import shutil
import subprocess

import pytest
from model import drawing, switches, worlds
from model.explorer import Exploration
from model.switches import SWITCHES
from model.worlds import WORLDS
from support.pages import ROOT, blocks

from acredssp.core.client import ClientHandshake
from acredssp.core.handshake import Handshake

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.interpreted_only("the worlds subclass classes of the engine, which a compiled class does not allow"),
]

ESTABLISHED = {
    "relay": {"alice 2", "server 1", "server 2"},
    "sessions": set(),
    "careless-server": set(),
    "versions-2-to-6": {"alice 2", "server 2"},
    "other-service": {"service"},
    "no-tls": {"alice", "server 1", "server 2"},
    "altered-ntlm": {"alice", "server"},
    "negotiated": {"alice", "server"},
    "kerberos-alone": {"alice", "server 2"},
    "channel-bindings": {"server"},
    "machine-in-domain": {"alice 2", "server 1", "server 2"},
    "guest": {"server"},
}
"""Who can be established in each world: where nobody is, a property may hold because nothing happens."""


def explored(world, **bounds):
    return Exploration(world, **bounds).run()


@pytest.mark.parametrize("name", WORLDS)
def test_nothing_is_broken_in_a_world(name):
    report = explored(WORLDS[name]())
    assert not report.broken, drawing.as_text(report)
    assert report.whole
    assert {party for party, state in report.reached if state == "ESTABLISHED"} == ESTABLISHED[name]


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.name)
def test_a_protection_that_is_taken_away_is_missed(switch):
    with switch.off():
        report = explored(switch.world(), only=switch.breaks)
    assert report.property == switch.breaks
    assert report.broken
    assert report.steps


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.name)
def test_with_the_protection_its_world_is_one_in_which_nothing_is_found(switch):
    sound = switch.sound()
    assert WORLDS[sound.name]().properties == sound.properties
    assert switch.breaks in {each.name for each in (*sound.properties, *switch.world().properties)}


def test_every_property_has_a_switch():
    looked_for = {each.name for make in WORLDS.values() for each in make().properties}
    assert {switch.breaks for switch in SWITCHES} == looked_for


def switched(name):
    switch = next(each for each in SWITCHES if each.name == name)
    with switch.off():
        return explored(switch.world(), only=switch.breaks)


def test_versions_below_5_show_the_attack_of_cve_2018_0886():
    report = switched("legacy-versions")
    assert [step.party for step in report.steps] == ["service", "alice", "service", "service"]
    text = drawing.as_text(report)
    assert "to alice, made by the attacker: version 2, CHALLENGE" in text
    assert "pubKeyAuth seal(session 1, c→s, attacker's key)" in text
    assert "to service, made by the attacker: seal(session 1, c→s, attacker's key)" in text


def test_the_page_shows_the_attack_as_it_is_found():
    (block,) = (each for each in blocks() if (each.page, each.language) == ("docs/security.md", "text"))
    assert block.code.strip() == drawing.as_text(switched("legacy-versions"))


def test_the_page_says_what_each_property_is():
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    names = {each.name for make in WORLDS.values() for each in make().properties}
    assert names <= set(re.findall(r"^\| ([\w-]+) \|", page, re.MULTILINE))


@pytest.mark.parametrize(("version", "broken"), [(2, True), (3, True), (4, True), (5, False), (6, False)])
def test_the_attack_works_in_versions_2_to_4_alone_though_the_policy_allows_all(version, broken):
    assert bool(explored(worlds.other_service(floor=2, versions=(version,))).broken) == broken


def test_a_relay_without_binding_is_drawn_as_the_relay_that_it_is():
    report = switched("server-takes-any-binding")
    lines = drawing.as_mermaid(report).splitlines()
    assert lines[0] == "sequenceDiagram"
    assert [line.split(":")[0].strip() for line in lines if "->>" in line] == [
        "attacker->>server_1",
        "server_1->>attacker",
        "attacker->>alice_1",
        "alice_1->>attacker",
        "attacker->>server_1",
        "server_1->>attacker",
    ]


def test_graphviz_draws_a_counterexample():
    dot = shutil.which("dot")
    assert dot
    drawn = subprocess.run(
        [dot, "-Tsvg"], input=drawing.as_dot(switched("no-version-floor")), capture_output=True, text=True, check=True
    )
    assert "below its floor of 5" in drawn.stdout


def test_bounds_cut_an_exploration_off_and_the_report_says_so():
    assert not explored(WORLDS["relay"](), most=10).whole
    short = explored(WORLDS["relay"](), depth=2)
    assert (short.depth, short.whole) == (2, False)


def test_the_handshakes_are_those_of_the_package():
    world = WORLDS["relay"]()
    handshakes = [party.make() for party in world.parties]
    assert all(isinstance(each, Handshake) for each in handshakes)
    assert type(handshakes[0]) is ClientHandshake
    assert switches.ClientHandshake is ClientHandshake
