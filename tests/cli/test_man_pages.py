"""The manual pages name every command and option as `--help` does, and the wheel has them."""

import pytest
from support import man_pages

COMMANDS = man_pages.commands()


def test_there_is_a_page_for_each_command_and_no_other():
    assert {path.name for path in man_pages.FOLDER.iterdir()} == set(man_pages.pages())


@pytest.mark.parametrize(("name", "text"), man_pages.pages().items())
def test_a_page_is_made_of_the_command_as_it_is_now(name, text):
    assert (man_pages.FOLDER / name).read_text("utf-8") == text, f"docs/man/{name} is stale: make conformance"


@pytest.mark.parametrize("words", COMMANDS, ids="-".join)
def test_a_page_has_every_option_that_help_shows(words, command):
    status, shown, _ = command(*words[1:], "--help")
    assert status == 0
    page = man_pages.pages()[f"{'-'.join(words)}.1"].replace(r"\-", "-")
    offered = {name for each in man_pages.options(COMMANDS[words]) for name in each.opts}
    assert [name for name in offered if name not in shown] == []
    assert [name for name in offered if rf"\fB{name}\fR" not in page] == []
    assert offered or words[:2] == ("acredssp", "proxy")


def test_text_is_never_a_request_of_troff():
    lines = [line for page in man_pages.pages().values() for line in page.splitlines()]
    requests = {line.split()[0] for line in lines if line.startswith((".", "'"))}
    assert requests == {".TH", ".SH", ".PP", ".TP"}
    assert man_pages._text(".rdp's \\ file") == r"\&.rdp\(aqs \e file"
