"""The device is chosen as the operator says, and the manifest tells what a job ran on."""

import platform

import pytest
import torch

from core.contract.errors import JobError
from worker.engine import devices
from worker.engine.methods.network import mixed


def test_auto_takes_a_gpu_if_there_is_one() -> None:
    assert devices.choose("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert devices.choose("cpu") == torch.device("cpu")


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", "cpu:x"])
def test_a_device_that_is_not_there_is_refused_with_a_remedy(device: str) -> None:
    with pytest.raises(JobError) as caught:
        devices.choose(device)
    assert caught.value.code == "device_missing"
    assert "GRAFT_DEVICE" in str(caught.value.hint)


def test_threads_are_those_asked_for_or_all_cores() -> None:
    before = torch.get_num_threads()
    try:
        assert devices.use_threads(1) == torch.get_num_threads() == 1
        assert devices.use_threads(0) == torch.get_num_threads() == devices.cores()
    finally:
        torch.set_num_threads(before)


def test_the_books_name_machine_and_libraries() -> None:
    facts = devices.hardware(torch.device("cpu"))
    assert facts["cores"] == str(devices.cores())
    assert facts["device"] == "cpu"
    assert float(facts["memory_gib"]) > 0
    found = devices.versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__.partition("+")[0] or found["torch"] == torch.__version__
    assert {"onnx", "onnxruntime", "timm", "safetensors"} <= found.keys()


@pytest.mark.parametrize(
    ("able", "wanted", "expected"),
    [({"avx512_bf16": True}, True, torch.bfloat16), ({"avx512_bf16": True}, False, None), ({"avx2": True}, True, None)],
)
def test_a_cpu_mixes_precision_where_it_multiplies_bfloat16(
    able: dict[str, bool], wanted: bool, expected: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert mixed(torch.device("cpu"), on_cpu=wanted) == expected
