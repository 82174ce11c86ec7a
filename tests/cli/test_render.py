import io

import pytest
from rich.console import Console

from acredssp.cli import render
from acredssp.errors import CertificateError
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
