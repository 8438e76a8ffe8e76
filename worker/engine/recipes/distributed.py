"""Several processes of one machine that train as one, each with a device and its part of every batch.

Goyal et al.: Accurate, Large Minibatch SGD, 2017: gradients of the parts are added up, so that every process takes the
step that one alone would take. Rank 0 is the job's own process: it alone validates, saves, reports and hears wishes.
The others are started by torchrun's own process launcher, follow it step by step, and never outlive it.
"""

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, PContext, start_processes

from core.contract.errors import JobError
from core.processes import die_with_parent, keep_freed_memory

_PATIENCE = timedelta(days=1)  # the others wait while rank 0 validates; a dead one is noticed otherwise
_LOOK = 0.2  # seconds between two looks at whether all still live
_TOLD = 5.0  # seconds until a death is known that a broken connection told of
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

Work = Callable[..., None]
"""What a helper does: called with its `Team` and the arguments; must be importable by its name."""


class Team:
    """The processes as one of them sees them. Every method but `part` must be called by all, in the same order."""

    def __init__(self, rank: int, size: int, data: dist.ProcessGroup | None = None) -> None:
        """`data` carries gradients where they are on a GPU; words and CPU tensors go by the default group."""
        self.rank, self.size, self._data = rank, size, data

    def part(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's part of a batch; the batch must have an item for each."""
        return np.array_split(positions, self.size)[self.rank]

    def go_on(self, wanted: bool = True) -> bool:
        """What rank 0 wants."""
        word = torch.tensor([wanted], dtype=torch.uint8)
        dist.broadcast(word, src=0)
        return bool(word)

    def text(self, text: str = "") -> str:
        """A text of rank 0's."""
        words = [text]
        dist.broadcast_object_list(words, src=0)
        return words[0]

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors, in place, the values that they have at rank 0."""
        for tensor in tensors:
            values = tensor.detach().to("cpu", copy=True).contiguous()
            dist.broadcast(values, src=0)
            tensor.detach().copy_(values)

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        found = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(found)
        return float(found)

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace the gradients by their sum over all processes."""
        gradients = [part.grad for part in parameters if part.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat, group=self._data)
        for gradient, summed in zip(gradients, torch.split(flat, [part.numel() for part in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def average_buffers(self, module: nn.Module) -> None:
        """Replace floating-point buffers (running statistics) by their mean over all processes."""
        for buffer in module.buffers():
            if buffer.is_floating_point():
                values = buffer.detach().cpu()
                dist.all_reduce(values)
                buffer.detach().copy_(values / self.size)


@contextmanager
def team(
    size: int, device: torch.device, work: Work, *args: Any, check: Callable[[], None] = lambda: None
) -> Iterator[Team]:
    """The calling process as rank 0 of `size`, with the others at `work(team, *args)`; they are gone at the end.

    Rank r uses GPU r where `device` is one. `check` is called while the others start, and may raise. Raises `JobError`
    `helper_failed` if one of them fails.
    """
    with TemporaryDirectory(prefix="graft-team-") as name, _loopback():
        folder = Path(name)
        crew = _Crew(_start(size, device, folder, work, args))
        try:
            crew.await_all(folder, size, check)
            with _joined(_Place(0, size, device, folder)) as found, crew.watched(found):
                yield found
        except RuntimeError as error:  # a connection that broke, most likely
            crew.blame(error)
            raise
        finally:
            crew.end()


@dataclass(frozen=True)
class _Place:
    """Where a process belongs."""

    rank: int
    size: int
    device: torch.device
    """Rank 0's."""
    folder: Path
    """Where they meet."""


class _Crew:
    """The helpers' processes."""

    def __init__(self, context: PContext) -> None:
        self._context = context
        self._failed: dict[int, str] = {}
        self._over = threading.Event()
        self._lock = threading.Lock()

    def await_all(self, folder: Path, size: int, check: Callable[[], None]) -> None:
        """Return once each of them is ready to join."""
        while len(list(folder.glob("ready-*"))) < size - 1:
            check()
            if self._look():
                raise self._error()
            time.sleep(_LOOK)

    @contextmanager
    def watched(self, found: Team) -> Iterator[None]:
        """A thread looks whether they live, and frees rank 0 from waiting on a GPU for one that does not."""
        thread = threading.Thread(target=self._watch, args=(found,), daemon=True, name="helpers")
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def blame(self, error: RuntimeError) -> None:
        """Raise `JobError` if it was a helper's death that broke a connection."""
        deadline = time.monotonic() + _TOLD
        while not self._look() and time.monotonic() < deadline:
            time.sleep(_LOOK)
        if self._failed:
            raise self._error() from error

    def end(self) -> None:
        """End those that still live."""
        self._context.close(signal.SIGKILL)

    def _watch(self, found: Team) -> None:
        while not self._over.wait(_LOOK):
            if self._look():
                if found._data is not None:
                    dist.distributed_c10d._abort_process_group(found._data)
                return

    def _look(self) -> bool:
        with self._lock:
            if not self._failed:
                result = self._context.wait(timeout=0)
                failures = result.failures if result else {}
                self._failed = {rank + 1: _story(failure) for rank, failure in failures.items()}
            return bool(self._failed)

    def _error(self) -> JobError:
        rank, story = next(iter(self._failed.items()))
        return JobError(
            f"Process {rank} of those that train together failed: {story}",
            code="helper_failed",
            param="method.devices",
            hint="Set `devices` to 1 to train in one process; if it was memory, take a smaller `batch_size`.",
            details={"rank": rank},
        )


def _story(failure: Any) -> str:
    """How it failed, in a line."""
    if failure.exitcode < 0:
        return f"it was ended by signal {-failure.exitcode}."
    lines = [line for line in str(failure.message).splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"it ended with code {failure.exitcode}."


def _start(size: int, device: torch.device, folder: Path, work: Work, args: tuple[Any, ...]) -> PContext:
    # By value: multiprocessing's own pickler would leave the tensors in memory that both then write to.
    orders = pickle.dumps((work, args))
    each = {number: (_Place(number + 1, size, device, folder), os.getpid(), orders) for number in range(size - 1)}
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        return start_processes(
            name="graft-helper",
            entrypoint=_help,
            args=each,
            envs=dict.fromkeys(each, _LOOPBACK),
            logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
            start_method="spawn",
        )
    finally:  # the launcher takes signals over as if this process were torchrun
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _help(place: _Place, parent: int, orders: bytes) -> None:
    """A helper's process from beginning to end."""
    die_with_parent(parent=parent)
    keep_freed_memory()
    work, args = pickle.loads(orders)  # noqa: S301 -- from the process that started this one, in memory
    (place.folder / f"ready-{place.rank}").touch()
    with _joined(place) as found:
        work(found, *args)


def device_of(rank: int, device: torch.device) -> torch.device:
    """The device of a rank: the CPU, or the GPU of that number after `device`."""
    return torch.device("cuda", (device.index or 0) + rank) if device.type == "cuda" else device


@contextmanager
def _joined(place: _Place) -> Iterator[Team]:
    rank, size, device = place.rank, place.size, device_of(place.rank, place.device)
    store = dist.FileStore(str(place.folder / "store"), size)  # type: ignore[attr-defined]
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    try:
        data: Any = dist.new_group(backend="nccl") if device.type == "cuda" else None
        yield Team(rank, size, data)
    finally:
        dist.destroy_process_group()


@contextmanager
def _loopback() -> Iterator[None]:
    """Nothing of this leaves the machine."""
    before = {name: os.environ.get(name) for name in _LOOPBACK}
    os.environ |= _LOOPBACK
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
