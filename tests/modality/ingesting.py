"""What the tests of ingestion share: run one, see it rejected, read its faults and splits."""

import hashlib
from pathlib import Path

import pytest

from core.contract.datasets import DatasetReport, Fault
from core.modality.ingest import Ingested, RejectedError, ingest
from core.settings import Settings


def run(
    tmp_path: Path, data: bytes, *, seed: int = 0, reading=None, on_progress=None, should_stop=None, **limits
) -> Ingested:
    upload = tmp_path / "upload"
    upload.write_bytes(data)
    return ingest(
        upload,
        hashlib.sha256(data).hexdigest(),
        limits=Settings(**limits),
        seed=seed,
        scratch=tmp_path,
        reading=reading,
        on_progress=on_progress,
        should_stop=should_stop,
    )


def rejected(tmp_path: Path, data: bytes, **limits) -> RejectedError:
    with pytest.raises(RejectedError) as caught:
        run(tmp_path, data, **limits)
    error = caught.value
    assert error.hint
    assert error.body().type == "job_failed"
    assert (error.report.faults[0].code, error.report.faults[0].severity) == (error.code, "error")
    assert DatasetReport.model_validate_json(error.report.model_dump_json()) == error.report
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]
    return error


def faults(found: Ingested | RejectedError) -> dict[str, Fault]:
    return {fault.code: fault for fault in found.report.faults}


def splits(found: Ingested) -> dict[str, str]:
    return {item.name: item.split for item in found.manifest.items}
