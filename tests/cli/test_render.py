import io
import sys

import pytest
from rich.console import Console

from acredssp.aio.report import HandshakeOutcome, HandshakeReport
from acredssp.cli import render
from acredssp.cli.lines import Lines
from acredssp.cli.outcome import Result
from acredssp.cli.report import LoginReport
from acredssp.errors import CertificateError
from acredssp.mechanisms.base import Principal
from acredssp.status import Stage

PIN = "ab" * 32


def shown(show, *arguments, width=80):
    file = io.StringIO()
    show(Console(file=file, width=width, highlight=False), *arguments)
    return file.getvalue()


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("al\u00efce", "al\u00efce"),
        ("\x1b[2Jalice\x07", "\\x1b[2Jalice\\x07"),
        ("a\u202eb\n\ud800", "a\\u202eb\\n\\ud800"),
    ],
)
def test_what_a_peer_says_cannot_steer_a_terminal(text, printed):
    assert render.printable(text) == printed


def test_a_failure_is_a_sentence_and_what_to_do_with_the_pin_in_one_piece():
    error = CertificateError("the name is [bold]wrong\x1b", stage=Stage.TLS, hint=f"pin its key: {PIN}")
    text = shown(render.failure, error, width=40)
    assert text == f"protocol error at tls: the name is [bold]wrong\\x1b\n  pin its key: {PIN}\n"


def test_a_card_has_room_for_a_pin_in_80_columns():
    text = shown(render.card, "title", {"delegated": "x", "key pin": PIN})
    assert PIN in text
    assert all(len(line) <= 80 for line in text.splitlines())


# What a markup reads as emoji, as a style or as an escape.
NAMES = [":100:", "::a:1", ":warning:", "[bold]a[/]", "a[/]", "a\\", "a\\\\", "\\[b]", "[link=x]y"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("show", "arguments", "printed"),
    [
        (render.warning, lambda name: (name,), "warning: {}\n"),
        (render.failure, lambda name: (CertificateError(name, hint=name),), "protocol error: {0}\n  {0}\n"),
        (
            render.usage,
            lambda name: (LoginReport(result=Result.USAGE, message=name, hint=name),),
            "usage: {0}\n  {0}\n",
        ),
    ],
    ids=["warning", "failure", "usage"],
)
def test_text_of_others_is_printed_as_it_is(monkeypatch, show, arguments, name, printed):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    show(render.consoles()[1], *arguments(name))
    assert file.getvalue() == printed.format(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_has_text_of_others_as_it_is(name):
    title, fact = shown(render.card, name, {"account": name}).splitlines()
    assert title == f"\u2714 {name}"
    assert fact.split() == ["account", name]


@pytest.mark.parametrize("name", NAMES)
def test_a_line_of_the_server_has_text_of_others_as_it_is(name):
    file = io.StringIO()
    lines = Lines(Console(file=file, width=200, highlight=False), print, as_json=False)
    error = CertificateError(name, hint=name)
    lines.handshake(HandshakeReport((name, 1), error, None, Principal(name, "D"), outcome=HandshakeOutcome.FAILED))
    lines.end()
    assert f" D\\{name} from " in file.getvalue()
    assert file.getvalue().count(name) == 4
