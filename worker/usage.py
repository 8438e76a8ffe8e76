"""What memory a run holds: read in the child, which alone may touch the accelerator, and kept by its parent."""

import sys
from dataclasses import asdict, dataclass

import psutil


@dataclass
class Usage:
    """Bytes: `rss_bytes` at the last look, the others the most so far (of an accelerator as torch counts them)."""

    rss_bytes: int = 0
    peak_bytes: int = 0
    gpu_allocated_bytes: int = 0
    gpu_reserved_bytes: int = 0

    def take(self, seen: dict[str, int]) -> None:
        """Take in one look, whoever took it."""
        self.rss_bytes = seen.get("rss_bytes", self.rss_bytes)
        self.peak_bytes = max(self.peak_bytes, self.rss_bytes)
        self.gpu_allocated_bytes = max(self.gpu_allocated_bytes, seen.get("gpu_allocated_bytes", 0))
        self.gpu_reserved_bytes = max(self.gpu_reserved_bytes, seen.get("gpu_reserved_bytes", 0))

    def figures(self) -> dict[str, int]:
        """As a record."""
        return asdict(self)

    def megabytes(self) -> dict[str, int]:
        """The peaks for a log line; nothing of an accelerator that was not used."""
        peaks = {"peak_megabytes": self.peak_bytes >> 20, "gpu_megabytes": self.gpu_reserved_bytes >> 20}
        return {name: value for name, value in peaks.items() if value or name == "peak_megabytes"}


def look() -> dict[str, int]:
    """What this process holds now, and the most it has held of the accelerator if it has opened one."""
    seen = {"rss_bytes": int(psutil.Process().memory_info().rss)}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        seen["gpu_allocated_bytes"] = int(torch.cuda.max_memory_allocated())
        seen["gpu_reserved_bytes"] = int(torch.cuda.max_memory_reserved())
    return seen
