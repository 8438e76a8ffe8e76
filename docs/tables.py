"""Writes the generated tables of the pages in this folder: `make docs`. A test fails when one is out of date."""

import sys
from collections.abc import Callable
from pathlib import Path

from prometheus_client.metrics_core import Metric

from app.health.metrics import Metrics
from app.jobs.tailer import Tailer
from app.predictions.measures import Measures
from core.modality.table_faults import TABLE_KINDS
from core.settings import MIB, Settings
from core.store.store import Store
from migrations.run import upgrade

HERE = Path(__file__).parent


def settings_table() -> str:
    """Every environment variable with its default and sentence."""
    rows = ["| variable | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "") else f"`{_plain(name, field.default)}`"
        rows.append(f"| `GRAFT_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def _plain(name: str, value: object) -> str:
    if name.endswith("_bytes") and isinstance(value, int) and value % MIB == 0:
        return f"{value // MIB} * 1024 * 1024"
    return f"{value:g}" if isinstance(value, float) else str(value)


def faults_table() -> str:
    """Every fault that a table of texts or rows can have."""
    rows = ["| code | severity | what was found | what to do |", "|---|---|---|---|"]
    cells = ((code, *kind) for code, kind in TABLE_KINDS.items())
    rows += ["| `{}` | {} | {} | {} |".format(*(cell.replace("|", "\\|") for cell in row)) for row in cells]
    return "\n".join(rows)


def metrics_table() -> str:
    """Every metric of ours on the metrics page, with its labels."""
    rows = ["| metric | kind | labels | |", "|---|---|---|---|"]
    for family in sorted(metric_families(), key=lambda family: family.name):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in _LABELS.get(family.name, ()))
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(rows)


_LABELS = {
    "graft_http_requests": ("method", "route", "status"),
    "graft_http_request_seconds": ("method", "route"),
    "graft_predict_seconds": ("phase",),
    "graft_predict_items": ("outcome",),
    "graft_queue_depth": ("queue",),
    "graft_queue_oldest_seconds": ("queue",),
    "graft_jobs": ("state",),
    "graft_job_step_seconds": ("method", "step"),
    "graft_workers": ("queue",),
    "graft_worker_rss_bytes": ("worker", "queue"),
    "graft_worker_peak_bytes": ("worker", "queue"),
    "graft_worker_gpu_allocated_bytes": ("worker", "queue"),
    "graft_worker_gpu_reserved_bytes": ("worker", "queue"),
    "graft_deliveries": ("state",),
}


def metric_families() -> list[Metric]:
    """What an API with an empty store shows, the process's own figures aside."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))
        store = Store.open(settings)
        upgrade(store.db)
        metrics = Metrics()
        metrics.watch(store, Tailer(store), settings)
        Measures().register(metrics.registry)
        try:
            return [family for family in metrics.registry.collect() if family.name.startswith("graft_")]
        finally:
            store.close()


TABLES: dict[str, Callable[[], str]] = {"settings": settings_table, "faults": faults_table, "metrics": metrics_table}


def filled(page: str) -> str:
    """The page with each table between `<!-- table: name -->` and `<!-- end -->` made anew."""
    for name, make in TABLES.items():
        mark = f"<!-- table: {name} -->\n"
        if mark in page:
            before, _, rest = page.partition(mark)
            _, _, after = rest.partition("<!-- end -->")
            page = f"{before}{mark}{make()}\n<!-- end -->{after}"
    return page


def main() -> int:
    """Write all pages; the exit status tells whether one had been out of date."""
    stale = 0
    for path in sorted(HERE.glob("*.md")):
        page = path.read_text()
        fresh = filled(page)
        if fresh != page:
            path.write_text(fresh)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
