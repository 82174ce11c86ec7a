import io
import json

import pytest
from rich.console import Console

from acredssp.carriage.rdp import RDP
from acredssp.cli import timeline
from acredssp.cli.demo import _Stage, demo
from acredssp.cli.storm import HOST, Storm


@pytest.mark.thorough
@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("terminal", [True, False])
def test_the_demo_shows_every_stage_and_every_figure(width, terminal):
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None, highlight=False)
    report = demo(console, count=6, concurrency=4, quiet=False)
    assert (report.result, report.handshakes, report.failures) == ("success", 6, 0)
    text = file.getvalue()
    for said in (
        "X.224 Connection Request", "NTLM AUTHENTICATE + pubKeyAuth", "early user authorization", "logged on",
        "6 of 6 logons", "handshakes a second", "p99", "version 6", "STATUS_LOGON_FAILURE",
    ):  # fmt: skip
        assert said in text
    assert terminal or all(len(line) <= width for line in text.splitlines())
    assert "to nego_token" not in text  # every step has a name


def test_the_demo_prints_one_object_for_machines(command):
    status, out, err = command("demo", "--count", 3, "--concurrency", 400, "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert (report["handshakes"], report["concurrency"], report["wrong_password"]) == (3, 3, "STATUS_LOGON_FAILURE")
    assert {"side", "what", "bytes", "microseconds"} == set(report["timeline"][0])


def test_a_timeline_has_each_flight_once_and_takes_turns():
    stage = _Stage.set()
    steps = timeline.record(stage.client, stage.server, RDP(hybrid_ex=True), HOST).steps
    sent = [step.side for step in steps if step.sent]
    assert sent == ["client", "server"] * 5
    assert all(step.seconds > 0 for step in steps)
    assert sum(step.sent for step in steps) > 1000


def test_a_failure_is_in_the_figures():
    assert Storm(4, 2, (0.1, 0.2, 0.3), 0.5).count == 5
    assert Storm(4, 2, (0.1, 0.2, 0.3), 0.5).rate == 6
    assert Storm(4, 2, (), 0.5).percentile(99) == 0
    assert Storm(4, 2, (0.1, 0.2, 0.3), 0.5).percentile(50) == pytest.approx(0.2)
