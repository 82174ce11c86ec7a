"""Explores all worlds, and finds a counterexample with each switch: `make model`, or `python -m model --help`."""

import argparse
import json
import pathlib
import platform
import sys

from model import drawing
from model.explorer import Exploration
from model.switches import SWITCHES
from model.worlds import WORLDS, widened

DRAWN = {"text": drawing.as_text, "mermaid": drawing.as_mermaid, "dot": drawing.as_dot}


def options():
    parser = argparse.ArgumentParser(prog="python -m model", description=__doc__)
    parser.add_argument("names", nargs="*", help="worlds and switches; all of them if none is named")
    parser.add_argument(
        "--most", type=_count, default=0, help="how many states of a world to visit at most; its own bound if 0"
    )
    parser.add_argument(
        "--depth", type=_count, default=0, help="how many messages to deliver in a world at most; its own bound if 0"
    )
    parser.add_argument("--draw", choices=DRAWN, default="", help="draw each counterexample")
    parser.add_argument("--wide", action="store_true", help="explore worlds with wider bounds, which takes minutes")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--figures", default="", help="the folder to write the tables of docs/security.md to")
    chosen = parser.parse_args()
    if (chosen.most or chosen.depth) and not set(chosen.names).isdisjoint(switch.name for switch in SWITCHES):
        parser.error("--most and --depth are bounds of worlds: a switch is explored up to its counterexample")
    return chosen


def _count(text):
    """A number that is not negative, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return int(text)


def figures_of(report):
    """What a report says, for a machine."""
    names = ("world", "states", "moves", "deliveries", "refused", "depth", "whole", "property", "broken")
    return {name: getattr(report, name) for name in names} | {"seconds": round(report.seconds, 2)}


def explore(chosen):
    """Yield the name of each world and switch, whether it is a switch, and the report."""
    for name, make in WORLDS.items():
        if not chosen.names or name in chosen.names:
            yield (
                name,
                "",
                Exploration(widened(make()) if chosen.wide else make(), most=chosen.most, depth=chosen.depth).run(),
            )
    for switch in SWITCHES:
        if not chosen.names or switch.name in chosen.names:
            with switch.off():
                yield switch.name, switch.breaks, Exploration(switch.world(), only=switch.breaks).run()


def write_figures(folder, results):
    """Write the tables for docs/security.md; `make security-report` puts them there."""
    columns = ["states", "messages tried", "deepest way", "seconds"]
    worlds = [
        [
            f"`{name}`: {_first(WORLDS[name])}",
            *_numbers(each),
            "nothing" if each["whole"] else "nothing, within the bounds",
        ]
        for name, each in results["worlds"].items()
    ]
    says = {switch.name: switch.says for switch in SWITCHES}
    switches = [
        [f"`{name}`: {says[name]}", each["property"], each["states"], each["depth"], each["broken"]]
        for name, each in results["switches"].items()
    ]
    where = f"Python {platform.python_version()}, {platform.machine()}, one core"
    _write(folder / "model.json", where, ["world", *columns, "found"], worlds)
    headings = ["switch", "property that breaks", "states", "messages", "found"]
    _write(folder / "model-switches.json", where, headings, switches)


def _first(make):
    """What a world is, in a sentence."""
    return make.__doc__.strip().rstrip(".")


def _numbers(each):
    return [each["states"], each["deliveries"], each["depth"], each["seconds"]]


def _write(path, where, columns, rows):
    figures = {"measured": where, "columns": columns, "rows": rows}
    path.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", "utf-8")


def line(name, breaks, report):
    found = report.broken or ("nothing found" if report.whole else "nothing found within the bounds")
    mark = "" if report.property == breaks else "  WRONG"
    return (
        f"{name:26} {report.states:8,} states {report.deliveries:9,} messages {report.depth:3} deep "
        f"{report.seconds:6.1f} s  {found}{mark}"
    )


def main():
    chosen = options()
    known = {*WORLDS, *(switch.name for switch in SWITCHES)}
    if unknown := set(chosen.names) - known:
        sys.exit(f"expected some of {', '.join(sorted(known))}, got {', '.join(sorted(unknown))}")
    results, wrong = {"worlds": {}, "switches": {}}, 0
    for name, breaks, report in explore(chosen):
        wrong += report.property != breaks
        results["switches" if breaks else "worlds"][name] = figures_of(report)
        if not chosen.json:
            print(line(name, breaks, report), flush=True)
            if chosen.draw and report.broken:
                print(DRAWN[chosen.draw](report))
    if chosen.figures:
        write_figures(pathlib.Path(chosen.figures), results)
    if chosen.json:
        print(json.dumps(results, indent=2))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
