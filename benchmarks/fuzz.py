"""Generated calls, good and bad, against a whole running service: none may be answered with a fault of the service's.

Schemathesis draws them from the service's own description, with a seed; the same seed draws the same calls. Access keys
are fuzzed apart, at the end: the first key that is made closes the door to everybody without one.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.common import Table, parser, service
from examples.demo import write_digits
from graft import Graft

PROGRAM = """
import schemathesis
from schemathesis.cli import schemathesis as program
from schemathesis.transport.requests import binary_serializer
schemathesis.serializer("application/offset+octet-stream")(binary_serializer)  # the bytes of a resumable upload
program()
"""
COMMAND = [sys.executable, "-c", PROGRAM, "run"]
METHODS = {"get", "post", "put", "patch", "delete", "head"}
# A well-formed request may still name a base model or a state that does not exist; no schema can say so.
NEVER_CHECKED = ("positive_data_acceptance",)
REFUSALS = [400, 401, 403, 404, 405, 406, 408, 409, 410, 412, 413, 415, 422, 428, 429]  # 412: another version of tus
OPEN = ("ignored_auth",)  # without keys everybody is let in from this machine
ROUNDS = 5


def fuzz(url: str, folder: Path, *, seed: int, examples: int, options: list[str]) -> dict[str, Any]:
    """One run of schemathesis; returns its report."""
    report = folder / f"report-{seed}-{len(list(folder.iterdir()))}.json"
    fixed = ["--max-examples", str(examples), "--seed", str(seed), "--request-timeout", "30", "--no-color"]
    fixed += ["--continue-on-failure", "--generation-database", "none", "--report-json-path", str(report)]
    done = subprocess.run(
        [*COMMAND, f"{url}/openapi.json", *fixed, *options], cwd=folder, capture_output=True, text=True, check=False
    )
    if not report.exists():
        raise RuntimeError(done.stdout[-4000:] + done.stderr[-4000:])
    value: dict[str, Any] = json.loads(report.read_text())
    if value["failures"] or value["errors"]:
        print(done.stdout[:20_000])  # each with a curl command that does it again
    return value


def runs(url: str, folder: Path, *, cases: int, seed: int) -> Iterator[dict[str, Any]]:
    """Runs until there were enough cases, then one on the access keys."""
    paths = httpx2.get(f"{url}/openapi.json").json()["paths"]
    operations = sum(method in METHODS for p in paths.values() for method in p)
    phases = ["--phases", "examples,coverage,fuzzing,stateful"]
    unchecked = ["--exclude-checks", ",".join(NEVER_CHECKED + OPEN)]
    left, number = cases, 0
    while left > 0 and number < ROUNDS:
        examples = max(1, -(-left // operations))
        options = [*phases, *unchecked, "--exclude-path-regex", "^/keys"]
        report = fuzz(url, folder, seed=seed + number, examples=examples, options=options)
        left, number = left - report["test_cases"]["generated"], number + 1
        yield report
    made = httpx2.post(f"{url}/keys", json={"name": "fuzz", "scope": "admin"})
    made.raise_for_status()
    options = ["--phases", "examples,coverage,fuzzing", "--exclude-checks", ",".join(NEVER_CHECKED)]
    options += ["--include-path-regex", "^/keys", "--header", f"Authorization: Bearer {made.json()['secret']}"]
    yield fuzz(url, folder, seed=seed, examples=max(1, cases // operations), options=options)


def tell(table: Table, reports: list[dict[str, Any]], cases: int) -> None:
    """Rows of what was found."""
    failures: Counter[str] = Counter()
    for report in reports:
        for failure in report["failures"]:
            failures[failure["type"]] += failure["count"]
    table.add("generated calls", sum(report["test_cases"]["generated"] for report in reports), f">= {cases}")
    table.add("operations called", sum(report["operations"]["tested"] for report in (reports[0], reports[-1])))
    table.add("operations left out by a fault", sum(report["operations"]["errored"] for report in reports), "<= 0")
    table.add("answers that tell of a fault in the service", failures.pop("ServerError", 0), "<= 0")
    table.add("answers with a status that is not described", failures.pop("UndefinedStatusCode", 0), "<= 0")
    for name, count in sorted(failures.items()):
        table.add(f"violations: {name}", count, "<= 0")
    table.add("other violations of the description, in all", sum(failures.values()), "<= 0")


def main() -> int:
    """Start a service, give it something to be asked about, fuzz it; the exit status is 1 if a promise was broken."""
    value = parser(__doc__ or "")
    value.add_argument("--cases", type=int, default=10_000, help="generated calls, at least")
    value.add_argument("--seed", type=int, default=1)
    options = value.parse_args()
    cases = 2_000 if options.quick else options.cases
    table = Table("fuzz")
    haste = {"GRAFT_RATE_PER_MINUTE": "0", "GRAFT_MAX_UPLOAD_BYTES": str(64 * 1024 * 1024)}
    os.environ.pop("GRAFT_API_KEY", None)
    with service(**haste) as (url, data), tempfile.TemporaryDirectory() as scratch, Graft(url) as client:
        (folder := Path(scratch) / "fuzz").mkdir()
        (folder / "schemathesis.toml").write_text(f"[checks.negative_data_rejection]\nexpected-statuses = {REFUSALS}\n")
        source = client.datasets.wait(client.datasets.upload(options.data or write_digits(Path(scratch)), name="seed"))
        client.jobs.wait(client.jobs.create(source=source.id).id)
        reports = list(runs(url, folder, cases=cases, seed=options.seed))
        table.add("healthy afterwards", float(httpx2.get(f"{url}/healthz").is_success), ">= 1")
        log = (data / "logs" / "graftd.log").read_text(errors="replace")
        table.add("unexpected errors in the service's log", log.count("Traceback (most recent call last)"), "<= 0")
    tell(table, reports, cases)
    return table.finish(options.json)


if __name__ == "__main__":
    sys.exit(main())
