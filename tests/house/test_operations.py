"""The page for operators, the dashboard and the scrape configuration say what the programs really have."""

import json
import re
from pathlib import Path

import pytest
import yaml

from docs import tables

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names() -> set[str]:
    """Every name that a query may use."""
    found = set()
    for family in tables.metric_families():
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        found |= {family.name + ending for ending in endings}
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_generated_tables_are_fresh(path: Path) -> None:
    page = path.read_text()
    assert tables.filled(page) == page, "run `make docs`"


def test_every_setting_and_metric_has_a_row() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    assert page.count("| `GRAFT_") > 40
    assert page.count("| `graft_") > 15


def test_labels_are_those_of_the_page(names: set[str]) -> None:
    known = {family.name for family in tables.metric_families()}
    assert set(tables._LABELS) <= known
    for family in tables.metric_families():
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(tables._LABELS.get(family.name, ())), family.name


def test_the_dashboard_asks_for_metrics_that_exist(names: set[str]) -> None:
    panels = json.loads((ROOT / "deploy" / "grafana.json").read_text())["panels"]
    asked = {name for panel in panels for one in panel["targets"] for name in re.findall(r"graft_\w+", one["expr"])}
    assert len(asked) >= 18
    assert asked <= names


def test_the_scrape_configuration_points_to_the_metrics() -> None:
    jobs = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())["scrape_configs"]
    assert [job["metrics_path"] for job in jobs] == ["/metrics"]
