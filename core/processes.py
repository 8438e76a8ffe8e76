"""What a process asks of the operating system for itself: to end with its parent, to keep the memory it has freed."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT_BYTES, _MAPPED_BYTES = 2**31 - 1, 2**30


def die_with_parent(number: int = signal.SIGKILL, *, parent: int | None = None) -> None:
    """Let the kernel send this process a signal when the thread that started it ends (Linux; elsewhere nothing).

    With the `parent`'s process id, one that has ended already is noticed too.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)


def keep_freed_memory() -> bool:
    """Let malloc reuse large blocks instead of handing each back to the kernel; whether it does (glibc alone can).

    By default a block of more than 32 MiB is a mapping of its own, whose pages are cleared by the kernel one by one
    every time: each step of a training allocates its activations anew. For a process that ends with its work: what it
    has freed is the system's again only then.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))
