"""When memory does not suffice for a batch: fewer items at a time, down to one."""

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from core.contract.errors import JobError
from worker.engine.out_of_memory import says_out_of_memory

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether that is what the error says."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and says_out_of_memory(str(error))


def peak_bytes(device: torch.device) -> int:
    """The most memory that was in use at once: on a GPU by torch's tensors, else by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def out_of_memory(device: torch.device, *, batch_size: int, at_a_time: int) -> JobError:
    """`out_of_memory` with what was measured."""
    peak = peak_bytes(device)
    where = "the GPU's memory" if device.type == "cuda" else "the machine's memory"
    return JobError(
        f"Even {at_a_time} of {batch_size} at a time {'does' if at_a_time == 1 else 'do'} not fit into {where} "
        f"(peak {peak / 2**30:.2f} GiB).",
        code="out_of_memory",
        param="base_model",
        hint="Take a smaller base model or one for smaller images, freeze more of it (`freeze`), or use a machine "
        "with more memory.",
        details={"device": device.type, "peak_bytes": peak, "batch_size": batch_size, "at_a_time": at_a_time},
    )


class AtATime:
    """How many items go through a network together: as many as wanted, until memory says otherwise."""

    def __init__(
        self,
        device: torch.device,
        *,
        size: int | None = None,
        release: Callable[[], None] = lambda: None,
        say: Callable[[int, int], None] = lambda _before, _now: None,
    ) -> None:
        """`release` lets go of what a failed attempt left behind; `say` hears the size that failed and the next."""
        self.device, self.size = device, size
        self._release, self._say = release, say

    def attempt(self, items: int, work: Callable[[int], T]) -> T:
        """`work(size)` with the largest known size up to `items`, halved for good as often as memory runs out.

        `work` must start from nothing each time. Raises `JobError` `out_of_memory` where one item is too much.
        """
        while True:
            size = min(self.size or items, items)
            try:
                return work(size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Only out here, where the error and its traceback are gone, is nothing of the attempt held any more.
            self._halve(size, items)

    @contextmanager
    def fatal(self, items: int) -> Iterator[None]:
        """Running out of memory in here cannot be mended by fewer items at a time: `JobError` `out_of_memory`."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(self.device, batch_size=items, at_a_time=min(self.size or items, items)) from error

    def _halve(self, size: int, items: int) -> None:
        self._release()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if size == 1:
            raise out_of_memory(self.device, batch_size=items, at_a_time=1)
        self.size = size // 2
        self._say(size, self.size)
