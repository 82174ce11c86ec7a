"""The dashboard of the examples: Grafana's shape, and only figures that the gateway has."""

import json
import re
from pathlib import Path

import pytest

from acredssp.proxy.metrics import Metrics

DASHBOARD = json.loads(
    (Path(__file__).parent.parent.parent / "examples" / "deploy" / "dashboard.json").read_text(encoding="utf-8")
)
PANELS = DASHBOARD["panels"]
COLUMNS = 24
UNITS = {"_seconds": {"s"}, "_bytes": {"Bps"}}


def figures():
    """{name of a series: its labels}, of every figure of the gateway."""
    found = {}
    for collector in {*Metrics()._registry._collector_to_names}:
        labels = {*collector._labelnames}
        for suffix in {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[
            collector._type
        ]:
            found[f"{collector._name}{suffix}"] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def queries():
    return [(panel, target["expr"]) for panel in PANELS for target in panel["targets"]]


def test_every_figure_that_is_asked_for_is_one_with_these_labels():
    known = figures()
    for _, query in queries():
        (name,) = re.findall(r"acredssp_proxy_\w+", query)
        assert name in known
        wanted = {label for by in re.findall(r"by \(([^)]*)\)", query) for label in by.split(", ")}
        wanted |= set(re.findall(r"[{,](\w+)=", query)) - {"job", "instance"}
        assert wanted <= known[name], query


def test_every_figure_of_the_gateway_is_shown():
    shown = {
        re.sub(r"_(bucket|total)$", "", name) for _, query in queries() for name in re.findall(r"acredssp_\w+", query)
    }
    assert shown == {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in figures()}


def test_what_only_grows_is_shown_as_a_rate_and_a_quantile_keeps_its_buckets():
    for _, query in queries():
        if "_total" in query:
            assert re.search(r"(rate|increase)\(acredssp_\w+_total\{[^}]*\}\[\$__rate_interval\]\)", query)
        if "_bucket" in query:
            assert re.match(r"histogram_quantile\(0\.\d+, sum by \(le[,)]", query)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_has_what_grafana_needs(panel):
    assert panel["type"] in {"stat", "timeseries"}
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        for ending, units in UNITS.items():
            assert ending not in target["expr"] or unit in units
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(re.findall(r"\w+", target["expr"]))
        assert target["expr"].count("(") == target["expr"].count(")")
        assert 'job=~"$job",instance=~"$instance"' in target["expr"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_panels_lie_side_by_side():
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == {*range(COLUMNS)}
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_its_variables_are_those_that_it_asks_for():
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "job", "instance"]
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(PANELS))) - {"__rate_interval"}
    assert used == set(names)
