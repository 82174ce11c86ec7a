"""The documentation as a site: it is made without a warning, so every link leads somewhere and every name is known."""

import dataclasses
import html
import importlib.util
import inspect
import re
import shutil
import subprocess
import sys

import pytest
from support.pages import ROOT
from support.peers import DEADLINE
from test_public_api import PUBLIC, public_classes
from typer.main import get_command

import acredssp
from acredssp.cli.app import command_line
from acredssp.status import NTSTATUS, SecurityStatus

DOCS = ROOT / "docs"

spec = importlib.util.spec_from_file_location("site_reference", DOCS / "_site" / "reference.py")
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)
spec = importlib.util.spec_from_file_location("site_pictures", DOCS / "_site" / "pictures.py")
pictures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pictures)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site's folder; what the tree makes of pages goes there, too."""
    pytest.importorskip("sphinx", reason="Sphinx is missing: pip install acredssp[docs]")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", "-d", folder / "doctrees", DOCS, folder],
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def read(site, page):
    return (site / page).read_text(encoding="utf-8")


def test_the_reference_has_the_public_modules_and_the_first_page_leads_to_every_page():
    assert set(reference.PUBLIC) == set(PUBLIC)
    listed = re.findall(r"^([\w-]+)$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {path.stem for path in DOCS.glob("*.md")} - {*listed, "index"} == set()


def test_every_public_module_has_a_page_and_every_name_a_description(site):
    for name in PUBLIC:
        assert f"<h1>{name}<a" in read(site, f"generated/reference/{name}.html")
    aio = read(site, "generated/reference/acredssp.aio.html")
    assert 'id="acredssp.aio.open_connection"' in aio
    root = read(site, "generated/reference/acredssp.html")
    assert 'href="acredssp.aio.html#acredssp.aio.open_connection"' in root


def options_of(cls):
    """What `help()` says of each parameter and attribute: (name, text)."""
    for section in re.findall(r"^(?:Args|Attributes):\n((?:    .*\n?|\n)+)", inspect.getdoc(cls) or "", re.MULTILINE):
        yield from re.findall(r"^    ([*\w, ]+):(.*(?:\n     .*|\n(?=\n     ))*)", section, re.MULTILINE)


def words_of_help(text):
    """The words of a docstring, as they look on a page."""
    return re.sub(r"`|\\(?=\W)", "", " ".join(text.split()))


def words_of_site(html_text):
    text = html.unescape(re.sub(r"<[^>]+>", "", html_text))
    return " ".join(text.translate(str.maketrans("\u201c\u201d\u2018\u2019", "\"\"''")).split())


def described_at(site, cls):
    """The words of the part of the reference that describes a class."""
    having = (name for name, found in reference.modules().items() if getattr(found, cls.__name__, None) is cls)
    module = next(name for name in having if cls.__name__ in reference.modules()[name].__all__)
    place = reference.place(module, cls.__name__)
    page = read(site, f"generated/reference/{place}.html")
    begin = page.index(f'id="{place}.{cls.__name__}"')
    return words_of_site(page[begin:].partition('<dl class="py class">')[0])


def test_the_site_says_of_every_option_what_help_says(site):
    """The test of the public names holds `help()` against the fields."""
    compared, missing = 0, []
    for cls in public_classes():
        shown = described_at(site, cls) if cls.__module__.startswith("acredssp") else ""
        for name, text in options_of(cls) if shown else ():
            compared += 1
            if not re.search(rf"{re.escape(name)} (\([^\u2013]*\) )?\u2013 {re.escape(words_of_help(text))}", shown):
                missing.append((cls.__name__, name, words_of_help(text)))
    assert missing == []
    assert compared > 800
    assert {name for name, _ in options_of(acredssp.Policy)} >= {
        each.name for each in dataclasses.fields(acredssp.Policy)
    }


def test_an_option_in_a_sentence_stays_one(site):
    page = words_of_site(read(site, "findings.html"))
    assert "(--ca or --pin)" in page
    assert re.findall(r"(?<=[ (])\u2013(?=[a-z])", page) == []


def test_an_option_is_broken_nowhere(site):
    """Neither in a sentence, nor in code, nor in a command whose line is wrapped."""
    assert '<span class="option">--ca</span>' in read(site, "findings.html")
    assert re.search(r'<span class="option">--users</span>(<span class="w">)? ', read(site, "first-logon.html"))
    page = read(site, "generated/command-line.html")
    assert re.search(r'<code class="[^"]*\boption\b[^"]*"><span class="pre">--version</span>', page)
    assert not re.search(
        r'<code class="[^"]*\boption\b[^"]*"><span class="pre">--as</span>', page
    )  # its choices are long
    css = (DOCS / "_site" / "static" / "tables.css").read_text(encoding="utf-8")
    assert ".option, code.option .pre { white-space: nowrap; }" in css
    assert "code.option { white-space: normal; }" in css  # a command has several words


def test_every_command_is_on_the_site(site):
    page = read(site, "generated/command-line.html")
    commands = {name: each for name, each in get_command(command_line()).commands.items() if not each.hidden}
    names = [*commands, *(f"proxy {name}" for name in commands["proxy"].commands)]
    assert [name for name in names if f'id="acredssp-{name.replace(" ", "-")}"' not in page] == []
    assert 'id="acredssp-top"' not in page  # `acredssp proxy top` by another name, which `--help` does not list either


def test_the_pictures_are_drawn_and_links_into_the_repository_lead_to_pages(site):
    page = read(site, "architecture.html")
    assert page.count('<div class="graphviz"') == (2 if shutil.which("dot") else 0)
    assert page.count("stateDiagram-v2") == (0 if shutil.which("dot") else 2)
    boundaries = read(site, "security.html")
    assert boundaries.count('<div class="graphviz"') == (1 if shutil.which("dot") else 0)
    assert boundaries.count("flowchart") == (0 if shutil.which("dot") else 1)
    assert 'href="generated/examples.html#gateway"' in read(site, "gateway.html")


def test_a_picture_of_boundaries_has_every_box_and_arrow():
    drawn = pictures.flow(['a["from here"] --> b["to there"]', 'subgraph g["inside"]', "  b --> c", "end"])
    expected = ["a -> b;", "b -> c;", 'a [label="from here"];', 'b [label="to there"];', 'label="inside"', "\n   }\n"]
    assert [each for each in expected if each not in drawn] == []


def test_the_page_of_statuses_explains_every_ntstatus_and_names_no_other():
    names = re.findall(r'<a id="(\w+)"></a>`(\w+)`', (DOCS / "statuses.md").read_text(encoding="utf-8"))
    assert all(anchor == shown for anchor, shown in names)
    told = {shown for _, shown in names}
    assert told <= {*NTSTATUS.__members__, *SecurityStatus.__members__}
    assert set(NTSTATUS.__members__) <= told


def test_the_page_of_statuses_explains_every_status_that_the_package_gives():
    told = set(re.findall(r"`(SEC_\w+)`", (DOCS / "statuses.md").read_text(encoding="utf-8")))
    lists = {"status.py", "statuses.py", "__init__.py"}
    code = [path.read_text(encoding="utf-8") for path in (ROOT / "acredssp").rglob("*.py") if path.name not in lists]
    given = set(re.findall(r"SecurityStatus\.(SEC_\w+)", "".join(code)))
    assert given - told == set()
    assert given
