"""The screen of `acredssp proxy top`, by textual, and the same tables for a text."""

import asyncio
import collections
import datetime as dt
import time
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from rich import filesize
from rich.table import Table
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Static

from acredssp.cli import render
from acredssp.proxy.view import Look, LookAt, LookFailed, view_of

__all__ = ["Looks", "Top", "show"]

_WINDOW: Final = 60.0
"""Seconds that rates and times are taken over."""
_MOST_ROWS: Final = 500


_COLUMNS: Final = {
    "nodes": "node relays handshakes let_in_per_second refused_per_second bytes_up_per_second bytes_down_per_second "
    "draining",
    "stages": "stage median p99",
    "refusals": "reason per_second total",
    "targets": "target up connections redirected",
    "connections": "user target host client node since",
}
_TITLES: Final = {"handshakes": "logging on", "draining": "", "p99": "99 %", "per_second": "/s", "total": "all"} | {
    "up": "", "connections": "now", "redirected": "away", "since": "for"
}  # fmt: skip
_WORDS: Final = frozenset({"node", "stage", "reason", "target", "user", "host", "client", "up", "draining"})
"""Columns of words. Those with a title give way where there is little room."""
_ALARMS: Final = [("up", False), ("draining", True)]


def _words(key: str, value: Any) -> str:
    match key, value:
        case "median" | "p99", float():
            return f"{value * 1000:.{1 if value < 0.1 else 0}f}"
        case "bytes_up_per_second" | "bytes_down_per_second", _:
            return filesize.decimal(int(value))
        case "since", _:
            return str(dt.timedelta(seconds=max(0, int(time.time() - value))))
        case "up" | "draining", _:
            return {("up", True): "up", ("up", False): "down", ("draining", True): "drains"}.get((key, value), "")
    return "-" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


class Looks:
    """Looks again and again, and compares each look with one of a minute ago.

    Args:
        look: Reads the figures.
    """

    def __init__(self, look: LookAt) -> None:
        self._look = look
        self._looks: collections.deque[Look] = collections.deque()

    async def view(self) -> dict[str, Any]:
        """Look, and return what `view_of` gives. The first view is compared with itself, so nothing moves there.

        Raises:
            LookFailed: The figures cannot be read.
        """
        self._looks.append(await self._look())
        last = self._looks[-1]
        while last.at - self._looks[0].at > _WINDOW or not last.nodes.keys() <= self._looks[0].nodes.keys():
            self._looks.popleft()  # it ends at the last one
        return view_of(last, self._looks[0])


def _tables(view: dict[str, Any], order: str = "since") -> Iterator[tuple[str, str, Table | Text]]:
    """Give name, title and table of each section of a view.

    Args:
        view: What `Looks.view` returned.
        order: The column that connections are sorted by.
    """
    for section, columns in _COLUMNS.items():
        rows, keys = view[section], columns.split()
        title = {"stages": "stages (ms)", "connections": f"connections ({len(rows or ())})"}.get(section, section)
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
        for key in keys:
            words, head = key in _WORDS, _TITLES.get(key)
            if head is None:
                head = key.replace("_per_second", "/s").replace("_", " ").removeprefix("bytes ")
            table.add_column(Text(head), justify="left" if words else "right", no_wrap=not (words and head))
        for row in (sorted(rows or (), key=lambda row: row[order]) if section == "connections" else rows)[:_MOST_ROWS]:
            table.add_row(*(_cell(key, row[key]) for key in keys))
        nothing = Text("the settings need [store] or [api] for this" if rows is None else "none")
        yield section, title, table if rows else nothing


def _cell(key: str, value: Any) -> Text:
    style = "bold red" if (key, value) in _ALARMS else ""
    return Text(render.printable(_words(key, value)), style, no_wrap=True, overflow="ellipsis")


def show(view: dict[str, Any]) -> None:
    """Print the tables of a view."""
    out, _ = render.consoles()
    for _, title, table in _tables(view):
        out.print(Text(title, "bold"), table, "", sep="\n")


class Top(App[None]):
    """The screen: it looks again every so many seconds until somebody leaves it.

    Args:
        look: Reads the figures.
        interval: Seconds between two looks.
        what: What is looked at, for the first line.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 1; padding: 0 1; }
    VerticalScroll { border: round $primary; border-title-color: $accent; padding: 0 1; }
    #nodes { height: auto; max-height: 9; } #middle { height: 8; } #connections { height: 1fr; }
    #middle > VerticalScroll { min-width: 26; } #middle > #targets { min-width: 28; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [("q", "quit", "Quit"), ("s", "sort", "Sort connections")]

    def __init__(self, look: LookAt, interval: float, what: str) -> None:
        super().__init__()
        self.title = "acredssp proxy top"
        self._looks, self._interval, self._what = Looks(look), interval, what
        self._order, self._view = "since", dict[str, Any]()
        self._head, self._tables = Static(id="head"), {section: Static() for section in _COLUMNS}
        self._panels = {section: VerticalScroll(table, id=section) for section, table in self._tables.items()}

    def compose(self) -> ComposeResult:
        """Make the panels."""
        nodes, *middle, connections = self._panels.values()
        for panel in nodes, *middle:
            panel.can_focus = False
        yield from (self._head, nodes, Horizontal(*middle, id="middle"), connections, Footer())

    def on_mount(self) -> None:
        """Begin to look."""
        self.run_worker(self._keep_looking())

    def action_sort(self) -> None:
        """Sort the connections by their next column."""
        columns = _COLUMNS["connections"].split()
        self._order = columns[(columns.index(self._order) + 1) % len(columns)]
        self._show()

    async def _keep_looking(self) -> None:
        while True:
            try:
                self._view = await self._looks.view()
                said = Text(f"{self._what}, {time.strftime('%X')}, rates of the last {self._view['seconds']:.0f} s")
            except LookFailed as error:
                said = Text(render.printable(str(error)), "bold red")
            self._head.update(said)
            self._show()
            await asyncio.sleep(self._interval)

    def _show(self) -> None:
        for section, title, table in _tables(self._view, self._order) if self._view else ():
            self._tables[section].update(table)
            self._panels[section].border_title = title
