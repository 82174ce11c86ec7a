"""The part of Sphinx that is ours: pages made of the tree, and links that lead out of this folder.

The pages in docs/ are written for people who read the repository: they link to `../README.md` or `../examples`. On the
site these are pages, too. They are made anew, below docs/generated, each time the site is made.
"""

import inspect
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from _site import command_line, examples, pictures, reference

DOCS = Path(__file__).parent.parent
ROOT = DOCS.parent
GENERATED = DOCS / "generated"

ROOT_PAGES = {"README.md": "readme", "CHANGELOG.md": "changelog", "SECURITY.md": "security-policy"}
"""The pages at the top of the repository, and their names on the site."""
_OUTWARD = re.compile(r"\]\(\.\./(?P<path>[\w./-]+?)(?P<anchor>#[\w-]+)?\)")
_CODE = re.compile(r"(?<!`)`[^`]+`(?!`)")
"""Code in a docstring, whose backslashes reStructuredText would take for its own."""
_OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z0-9-]*[a-z0-9])")
_COMMANDS = re.compile(r'<div class="highlight-shell .*?</pre>', re.DOTALL)
_SHORT = 32
"""The most letters of a word in code that is kept in one line: it fits on a telephone."""
_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields):")
_SOURCE = re.compile(r"\[(?P<text>[^\]]+)\]\(\.\./(?:acredssp|benchmarks|fuzz|tests|\.ci)[^)]*\)")


def write_pages(_app: Sphinx) -> None:
    """Write the pages that are made of the tree; a page that did not change keeps its time."""
    pages = {f"{name}.md": from_the_top(ROOT / file) for file, name in ROOT_PAGES.items()}
    pages["command-line.md"] = command_line.page()
    pages["examples.md"] = examples.page(ROOT / "examples")
    pages |= {f"reference/{name}": text for name, text in reference.pages().items()}
    for old in GENERATED.rglob("*.md"):
        if str(old.relative_to(GENERATED)) not in pages:
            old.unlink()
    for name, text in pages.items():
        path = GENERATED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def from_the_top(file: Path) -> str:
    """Return a page of the repository's top with its links as they must be below docs/generated."""
    text = re.sub(r"\]\((?=[\w.]+[/)#])(?!https?:)", "](../../", file.read_text(encoding="utf-8"))
    return re.sub(r"\]\(\.\./\.\./docs/", "](../", text)


def lead_inward(_app: Sphinx, name: str, source: list[str]) -> None:
    """Make links that lead out of docs/ lead to the site's own pages."""
    up = "../" * name.count("/")
    text = source[0].replace("](../../", "](../") if up else source[0]
    text = pictures.drawn(text)
    text = _SOURCE.sub(lambda link: link["text"] if "`" in link["text"] else f"`{link['text']}`", text)
    source[0] = _OUTWARD.sub(lambda link: _inward(link, up), text)


def _inward(link: re.Match[str], up: str) -> str:
    path, anchor = link["path"], link["anchor"] or ""
    if path in ROOT_PAGES:
        return f"]({up}generated/{ROOT_PAGES[path]}.md{anchor})"
    if path.startswith("examples"):
        return f"]({up}generated/examples.md{examples.anchor(path)})"
    return link[0]


def mark_code(_app: Sphinx, what: str, _name: str, value: object, _options: object, lines: list[str]) -> None:
    """Mark the indented lines in front of a docstring's sections as code, as people read them."""
    lines[:] = [_CODE.sub(lambda code: code[0].replace("\\", "\\\\"), line) for line in lines]
    if what == "data" and "\n".join(lines).strip() == inspect.getdoc(type(value)):
        lines.clear()  # Python gives a value without a docstring that of its type
    marked: list[str] = []
    for number, line in enumerate(lines):
        if _SECTION.fullmatch(line):
            lines[:] = [*marked, *lines[number:]]
            return
        if (
            line.startswith("    ")
            and not (marked and marked[-1].startswith("    "))
            and (not marked or not marked[-1])
        ):
            marked += ["::", ""] if not _in_code(marked) else []
        marked.append(line)
    lines[:] = marked


def _in_code(marked: list[str]) -> bool:
    """Return whether the last line that is not empty is one of code."""
    return next((line.startswith("    ") for line in reversed(marked) if line), False)


class Sentences:
    """Keeps the docstrings of properties from napoleon, which takes what is in front of a colon for a type."""

    def __init__(self) -> None:
        self._kept: list[str] = []

    def take(self, _app: Sphinx, what: str, _name: str, _value: object, _options: object, lines: list[str]) -> None:
        """Take the lines away before napoleon reads them."""
        if what in {"attribute", "data", "property"}:
            self._kept, lines[:] = lines[:], []

    def give_back(
        self, _app: Sphinx, what: str, _name: str, _value: object, _options: object, lines: list[str]
    ) -> None:
        """Put them back behind napoleon."""
        if what in {"attribute", "data", "property"}:
            lines[:] = self._kept


def resolve(app: Sphinx, env: Any, node: Any, content: nodes.Element) -> nodes.Node | None:
    """Lead a name of an internal module to the page where the name is public.

    Signatures name classes by the modules that define them, which are internal.
    """
    if node.get("refdomain") != "py":
        return None
    found = reference.place_of(node["reftarget"], node.get("py:module"))
    if found is None:
        return nodes.Text(content.astext()) if reference.is_elsewhere(node["reftarget"]) else None
    described = env.get_domain("py").objects.get(".".join(found))
    if described is None:  # a type variable, which has no description
        return nodes.Text(content.astext())
    target = f"{app.builder.get_relative_uri(node['refdoc'], described.docname)}#{described.node_id}"
    return nodes.reference("", "", content.deepcopy(), internal=True, refuri=target)


def draw_dashes(_app: Sphinx, document: nodes.document) -> None:
    """Draw the dash in front of a parameter's description, which Sphinx writes as two hyphens.

    `smartquotes` would draw it, and those of options in sentences, too.
    """
    for text in [each for each in document.findall(nodes.Text) if each.astext() == " -- "]:
        text.parent.replace(text, nodes.Text(" \u2013 "))


def keep_options_whole(_app: Sphinx, document: nodes.document) -> None:
    """Mark the options in sentences, and code of short words, which a browser would break after a hyphen."""
    for code in document.findall(nodes.literal):
        if max(map(len, code.astext().split()), default=0) <= _SHORT:
            code["classes"].append("option")
    for text in [each for each in document.findall(nodes.Text) if _OPTION.search(each) and _is_prose(each)]:
        parts = _OPTION.split(text.astext())
        marked = [
            nodes.inline("", part, classes=["option"]) if _OPTION.fullmatch(part) else nodes.Text(part)
            for part in parts
        ]
        text.parent.replace(text, marked)


def keep_options_of_commands_whole(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: object
) -> None:
    """Mark the options in the commands of a page, whose lines are wrapped."""
    if "body" in context:
        context["body"] = _COMMANDS.sub(
            lambda block: _OPTION.sub(r'<span class="option">\1</span>', block[0]), context["body"]
        )


def _is_prose(text: nodes.Text) -> bool:
    """Return whether a text is no code, whose words the theme keeps whole, and not in a title, which has anchors."""
    node = text.parent
    while node is not None and not isinstance(node, nodes.document):
        if isinstance(node, (nodes.FixedTextElement, nodes.literal, nodes.title, nodes.comment, nodes.raw)):
            return False
        node = node.parent
    return True


def setup(app: Sphinx) -> dict[str, Any]:
    """Join Sphinx."""
    app.connect("builder-inited", write_pages)
    app.connect("source-read", lead_inward)
    app.connect("autodoc-process-docstring", mark_code, priority=300)
    sentences = Sentences()
    app.connect("autodoc-process-docstring", sentences.take, priority=400)
    app.connect("autodoc-process-docstring", sentences.give_back, priority=600)
    app.connect("missing-reference", resolve)
    app.connect("doctree-read", draw_dashes)
    app.connect("doctree-read", keep_options_whole)
    app.connect("html-page-context", keep_options_of_commands_whole)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
