"""Which device a job runs on, and what it runs on, for the manifest."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import psutil
import torch

from core.contract.errors import JobError

_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "tokenizers",
    "peft",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "safetensors",
    "numpy",
    "scikit-learn",
    "pillow",
)
_GIB = 1024**3


def choose(device: str) -> torch.device:
    """`auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N` as a device; `JobError` if it is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise _refused(device) from error
    if chosen.type not in {"cpu", "cuda"}:
        raise _refused(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= (torch.cuda.device_count() if torch.cuda.is_available() else 0):
        raise JobError(
            f"The worker was told to use {device}, but there is no such GPU.",
            code="device_missing",
            hint="Set GRAFT_DEVICE to `auto` or `cpu`, or install a driver and a CUDA build of torch.",
        )
    return chosen


def _refused(device: str) -> JobError:
    return JobError(
        f"{device!r} is not a device.", code="device_missing", hint="GRAFT_DEVICE is `auto`, `cpu`, `cuda` or `cuda:N`."
    )


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(threads: int) -> int:
    """Give torch that many CPU threads (0: all cores) and return the number."""
    count = threads or cores()
    torch.set_num_threads(count)
    return count


def allotted() -> int:
    """CPU threads that this process may take: what `use_threads` said, or all cores before."""
    return torch.get_num_threads()


def hardware(device: torch.device | None = None) -> dict[str, str]:
    """What the job ran on: processor, cores, memory and, if it was used, the GPU."""
    facts = {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": str(cores()),
        "memory_gib": f"{psutil.virtual_memory().total / _GIB:.1f}",
        "device": "cpu" if device is None else device.type,
    }
    if device is not None and device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        facts |= {"gpu": gpu.name, "gpu_memory_gib": f"{gpu.total_memory / _GIB:.1f}"}
    return facts


def title(device: torch.device, threads: int) -> str:
    """Kind, model and threads in one line: what takes so long on one takes about as long on another of that name."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_properties(device).name}"
    return f"cpu: {_processor()}, {threads} threads"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a kernel file, read line by line
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown"


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries a model depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
