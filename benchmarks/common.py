"""What every benchmark shares: rows beside their goals, the command line, a service of its own."""

import argparse
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure beside its goal, e.g. `>= 0.935`; no goal means that the figure is only told."""

    name: str
    value: float
    goal: str
    unit: str
    ok: bool


@dataclass
class Table:
    """Collects rows and prints each as it comes."""

    title: str
    rows: list[Row] = field(default_factory=list)

    def add(self, name: str, value: float, goal: str = "", unit: str = "") -> None:
        """Add a figure; `goal` is empty or `<comparison> <number>`."""
        value = float(value)  # numpy's own kinds of figures cannot be written as JSON
        row = Row(name, round(value, 6), goal, unit, meets(value, goal))
        self.rows.append(row)
        mark = "    " if not goal else ("ok  " if row.ok else "MISS")
        print(f"{mark} {name:<58} {row.value:>12.4f} {unit:<8} {goal}", flush=True)

    def finish(self, path: Path | None) -> int:
        """Write the JSON file if one is wanted; the exit status is 1 if a goal was missed."""
        missed = [row for row in self.rows if not row.ok]
        print(f"{self.title}: {len(self.rows) - len(missed)} of {len(self.rows)} figures meet their goal")
        if path is not None:
            document = {"title": self.title, "machine": machine(), "rows": [asdict(row) for row in self.rows]}
            path.write_text(json.dumps(document, indent=1) + "\n")
        return int(bool(missed))


def meets(value: float, goal: str) -> bool:
    """Whether a value meets a goal such as `>= 50`."""
    if not goal:
        return True
    sign, number = goal.split()
    return {">=": value >= float(number), "<=": value <= float(number), "<": value < float(number)}[sign]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    packages = {}
    for name in ("torch", "torchvision", "timm", "onnxruntime", "numpy", "fastapi", "celery"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    command = " ".join(["python -m", *sys.orig_argv[2:]]) if "-m" in sys.orig_argv else " ".join(sys.argv)
    return {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "packages": packages,
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
    }


def parser(description: str) -> argparse.ArgumentParser:
    """The options every benchmark takes."""
    value = argparse.ArgumentParser(description=description)
    value.add_argument("--data", type=Path, help="folder with the data sets")
    value.add_argument("--json", type=Path, help="write the rows to this file")
    value.add_argument("--quick", action="store_true", help="a small version, to see that it runs")
    return value


def free_port() -> int:
    """A port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def service(**environment: str) -> Iterator[tuple[str, Path]]:
    """Start a service of its own in a temporary folder; yields its address and data folder, and stops it after."""
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
        port = free_port()
        graftd = str(Path(sys.executable).parent / "graftd")
        env = os.environ | {"GRAFT_DATA_DIR": f"{folder}/data", "GRAFT_PORT": str(port)} | environment
        # So that a benchmark that is told to end stops its service, too.
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
        subprocess.run([graftd, "up", "--detach"], env=env, check=True, stdout=subprocess.DEVNULL)
        try:
            yield f"http://127.0.0.1:{port}", Path(folder) / "data"
        finally:
            subprocess.run([graftd, "down"], env=env, check=True, stdout=subprocess.DEVNULL)
