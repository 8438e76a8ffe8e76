"""The description of the API is true: what it promises is what generated calls, good and bad, find."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.main import create_app
from core.settings import Settings
from core.store import workers
from core.store.store import Store
from core.wakeup import QUEUES
from tests.app.bundles import make_bundle, put
from tests.app.conftest import serving
from tests.app.doors import make_key
from tests.app.seed import add_dataset, add_job


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def test_every_operation_is_named_described_and_tells_its_errors(document: dict[str, Any]) -> None:
    names = []
    for path, calls in document["paths"].items():
        for method, operation in calls.items():
            where = f"{method.upper()} {path}"
            names.append(operation["operationId"])
            assert operation["summary"], where
            assert operation["description"], where
            assert operation["tags"], where
            answers = operation["responses"]
            assert {"500", "503"} <= set(answers), where
            if "{" in path:
                assert "404" in answers, where
            if "requestBody" in operation:
                assert {"400", "413", "415", "422"} <= set(answers), where
            for status, answer in answers.items():
                if status.startswith(("4", "5")) and (path, status) != ("/readyz", "503"):
                    schema = answer["content"]["application/json"]["schema"]
                    assert schema == {"$ref": "#/components/schemas/ErrorReply"}, (where, status)
    assert len(names) == len(set(names))
    assert len(names) >= 25


def test_a_newcomer_finds_an_example_of_every_method_in_the_description(document: dict[str, Any]) -> None:
    content = document["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]
    shown = {one["value"].get("method", {}).get("name", "auto") for one in content["examples"].values()}
    assert shown == set(
        document["components"]["schemas"]["JobSpec"]["properties"]["method"]["discriminator"]["mapping"]
    )


def test_generated_calls_find_what_the_description_promises(
    settings: Settings, sqlite_store: Store, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sqlite_store
    add_job(store, add_dataset(store))
    put(store, make_bundle())
    with store.db.write() as tx:
        for queue in QUEUES:
            workers.beat(tx, f"w-{queue}", queue, host="here", pid=1)
    calm = settings.model_copy(update={"broker_url": valkey_url, "lease_seconds": 3600.0, "rate_per_minute": 0})
    # What tus adds to HTTP: a media type for bytes, and 412 for another version of it.
    (tmp_path / "schemathesis.toml").write_text(
        "[checks.negative_data_rejection]\n"
        "expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 415, 422, 428, 429, '5xx']\n"
    )
    start = (
        "import schemathesis as s; from schemathesis.cli import schemathesis; "
        "s.serializer.alias('application/offset+octet-stream', 'application/octet-stream'); "
        "s.serializer.alias('application/x-ndjson', 'text/plain'); schemathesis()"
    )
    command = [sys.executable, "-c", start, "run"]
    # A well-formed request may still name a base model or a state that does not exist; no schema can say so.
    options = ["--phases", "examples,coverage,fuzzing", "--exclude-checks", "positive_data_acceptance"]
    options += ["--max-examples", "5", "--seed", "1", "--no-color", "--request-timeout", "10"]
    options += ["--header", f"Authorization: Bearer {make_key(store).secret}"]
    monkeypatch.setattr("app.access.middleware.FAILURES_PER_MINUTE", 1_000_000)  # 401 is what the checks look for
    monkeypatch.setattr("app.jobs.estimates.QUEUED_SECONDS", 0.5)  # the workers that are entered measure nothing
    with serving(calm) as url:
        done = subprocess.run(
            [*command, f"{url}/openapi.json", *options], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert httpx2.get(f"{url}/healthz").status_code == 200
    assert done.returncode == 0, done.stdout[-6000:]
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested is not None
    assert int(tested[1]) >= 25
