"""A pytest plugin: which test shows which requirement, and the table of it.

`docs/requirements/*.toml` list requirements; a test names those it shows with `@pytest.mark.requirement("id", ...)`.
`docs/conformance.md` is made of both, and describes the format; lists of another page (`docs/sspi.md`) go there.
`--conformance=write` writes the pages, `--conformance=check` fails where one is stale or a requirement has no test;
both are for `--collect-only`.
"""

import collections
import dataclasses
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LISTS = ROOT / "docs" / "requirements"
DOCS = ROOT / "docs"

CONFORMANCE = """\
# Conformance

The requirements that acredssp meets, and the tests that show it. `make conformance` makes this page of
`docs/requirements/*.toml` and the tests' markers: do not edit it. The tests fail where it is stale, or where a
requirement has neither a test nor a reason.

A requirement is a table in one of those files:

    [[group.requirement]]
    id = "codec.nonce"                      # unique over all files, stable
    text = "A nonce has 32 bytes."          # one sentence, in our own words
    source = "[MS-CSSP] 2.2.1"              # where it comes from
    later = "why it has no test yet"        # or: not_applicable = "why it never will"; only without tests

A test says what it shows:

    @pytest.mark.requirement("codec.nonce")
    def test_a_nonce_of_other_than_32_bytes_is_refused(size): ...

Several ids may stand in one marker, and several tests may show one requirement; it is held when all of them pass.

A list is for this page unless its file says `page = "sspi"`. There a requirement also has `here`, what acredssp does,
and `windows`, what Windows does otherwise. `otherwise = true` marks a requirement that acredssp does not meet on
purpose: `here` says what it does instead, the tests show that, and the page counts it apart. `complete = true` at the
top of a file forbids `later`.
"""

SSPI = """\
# The SSPI functions, requirement by requirement

What the pages of the five functions ask for, what acredssp does, and the tests that show it. `make conformance` makes
this page of `docs/requirements/sspi-*.toml` and the tests' markers: do not edit it. [conformance.md](conformance.md)
says how.

Where the third column is empty, acredssp does what the second says. Where the fourth is empty, Windows does the same.
A row that begins with "otherwise" is one that acredssp does not meet on purpose: the third column says what it does
instead, and the tests show that.

**Trust differs from the asyncio functions.** `open_connection` ends every logon on a certificate that is not trusted.
Here, as on Windows, the certificate alone ends no logon, since MANUAL_CRED_VALIDATION is always set: the caller looks
at SECPKG_ATTR_CERT_TRUST_STATUS, or asks for MUTUAL_AUTH. A caller who names whom to trust (`hRootStore`, or
`ClientConfig.trust`, with pins or authorities) decides: if that trust does not accept the certificate, a logon that
would delegate ends before anything is sent, with the verdict's own status. An empty `Trust()` and the default name
nobody.

[examples/sspi_client.py](../examples/sspi_client.py) is a C caller with its port to Python, line by line.
"""

HEADS = {"conformance": CONFORMANCE, "sspi": SSPI}
"""The pages and what they begin with."""

COLUMNS = {
    "conformance": "| | Requirement | Source | Shown by |\n|---|---|---|---|\n",
    "sspi": "| | Requirement | Here | Otherwise on Windows | Shown by |\n|---|---|---|---|---|\n",
}

Shown = dict[str, set[tuple[str, str]]]
"""The tests that name each requirement: id to (file below the root, function)."""


@dataclasses.dataclass(frozen=True)
class Requirement:
    """One line of a list."""

    id: str
    text: str
    source: str
    later: str = ""
    not_applicable: str = ""
    here: str = ""
    windows: str = ""
    otherwise: bool = False

    @property
    def excuse(self):
        """Why there is no test; empty where there has to be one."""
        if self.later:
            return f"later: {self.later}"
        return f"not applicable: {self.not_applicable}" if self.not_applicable else ""


@dataclasses.dataclass(frozen=True)
class Group:
    """Requirements under one heading."""

    title: str
    requirements: tuple[Requirement, ...]


@dataclasses.dataclass(frozen=True)
class List:
    """One file of requirements."""

    title: str
    groups: tuple[Group, ...]
    page: str = "conformance"
    complete: bool = False

    @classmethod
    def load(cls, text):
        """The list that a TOML text holds; TypeError or KeyError for a key too many or too few."""
        content = tomllib.loads(text)
        common = {"source": content.pop("source")} if "source" in content else {}
        groups = [
            Group(group["title"], tuple(Requirement(**common, **fields) for fields in group["requirement"]))
            for group in content.pop("group")
        ]
        return cls(groups=tuple(groups), **content)


def load(folder=LISTS):
    """All lists, in the order of their files' names."""
    return [List.load(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.toml"))]


def requirements_of(lists):
    """The requirements of all lists, in order."""
    return [requirement for listed in lists for group in listed.groups for requirement in group.requirements]


def problems(lists, shown):
    """Sentences about what does not fit together; none when every requirement is shown or excused."""
    requirements = requirements_of(lists)
    counted = collections.Counter(requirement.id for requirement in requirements)
    yield from (f"{name}: listed {times} times" for name, times in counted.items() if times > 1)
    for name in sorted(shown.keys() - counted.keys()):
        yield f"{name}: named by {', '.join(function for _, function in sorted(shown[name]))}, listed nowhere"
    unfinished = [requirement for listed in lists if listed.complete for requirement in requirements_of([listed])]
    yield from (
        f"{requirement.id}: later, in a list that is complete" for requirement in unfinished if requirement.later
    )
    for requirement in requirements:
        if requirement.later and requirement.not_applicable:
            yield f"{requirement.id}: both later and not applicable"
        if requirement.id in shown and requirement.excuse:
            yield f"{requirement.id}: has a test and yet says {requirement.excuse}"
        if requirement.id not in shown and not requirement.excuse:
            yield f"{requirement.id}: no test shows it"
        if requirement.otherwise and not requirement.here:
            yield f"{requirement.id}: otherwise, and `here` does not say what is done instead"


def render(lists, shown, page="conformance"):
    """The text of a page."""
    parts = [HEADS[page]]
    for listed in (listed for listed in lists if listed.page == page):
        parts.append(f"## {listed.title}\n\n{_count(requirements_of([listed]), shown)}\n")
        for group in listed.groups:
            rows = [_row(requirement, shown.get(requirement.id, set()), page) for requirement in group.requirements]
            heading = f"### {group.title}\n\n{COLUMNS[page]}"
            parts.append(heading + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _count(requirements, shown):
    """How many of a list are met, not met on purpose, not shown yet and not applicable: four numbers, one sum."""
    otherwise = sum(requirement.otherwise for requirement in requirements)
    met = sum(requirement.id in shown for requirement in requirements) - otherwise
    counts = {
        "are met": met,
        "are done otherwise on purpose": otherwise,
        "are not shown yet": sum(bool(requirement.later) for requirement in requirements),
        "are not applicable": sum(bool(requirement.not_applicable) for requirement in requirements),
    }
    said = [f"{count} {what}" for what, count in counts.items() if count]
    return f"Of {len(requirements)} requirements {', '.join(said)}."


def _row(requirement, tests, page):
    files = collections.defaultdict(list)
    for path, function in sorted(tests):
        files[path].append(f"`{function}`")
    shown = "<br>".join(f"[{path}](../{path}): {', '.join(names)}" for path, names in files.items())
    here = f"otherwise: {requirement.here}" if requirement.otherwise else requirement.here
    middle = [requirement.source] if page == "conformance" else [here, requirement.windows]
    return f"| {' | '.join([requirement.id, requirement.text, *middle, shown or requirement.excuse])} |"


# --- the plugin ---

_shown = pytest.StashKey[Shown]()
_whole = pytest.StashKey[bool]()


def pytest_addoption(parser):
    parser.addoption("--conformance", choices=["write", "check"], help="write or check the pages of requirements")


@pytest.hookimpl(tryfirst=True)  # before -k and -m take tests away
def pytest_collection_modifyitems(config, items):
    shown = collections.defaultdict(set)
    config.stash[_whole] = False
    if config.getoption("quick", default=False):  # it collects some of the tests
        return
    for item in items:
        for marker in item.iter_markers("requirement"):
            for name in marker.args:
                shown[name].add((item.path.relative_to(ROOT).as_posix(), item.originalname))
    config.stash[_shown] = dict(shown)
    collected = {item.path for item in items}
    config.stash[_whole] = collected.issuperset((ROOT / "tests").rglob("test_*.py"))


def pytest_collection_finish(session):
    mode = session.config.getoption("--conformance")
    if mode == "write":
        for page in HEADS:
            text = render(load(), session.config.stash[_shown], page)
            (DOCS / f"{page}.md").write_text(text, encoding="utf-8")
    if mode and (found := faults(session.config.stash[_shown])):
        raise pytest.UsageError("\n".join(found))


def faults(shown):
    """What is wrong with the lists, the markers and the pages together."""
    lists = load()
    found = list(problems(lists, shown))
    for page in HEADS:
        written = DOCS / f"{page}.md"
        if not written.exists() or written.read_text(encoding="utf-8") != render(lists, shown, page):
            found.append(f"docs/{page}.md is stale: make conformance")
    return found


@pytest.fixture
def shown_by_all_tests(request):
    """Which tests show what; None when this run did not collect all of them."""
    return request.config.stash[_shown] if request.config.stash[_whole] else None
