"""Measurements of the data folder's disk."""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

EVERY_SECONDS = 300.0
WAIT_SECONDS = 0.05


class Disk(Collector):
    """Free bytes at each scrape; the size of the blobs is added up every few minutes, in the background."""

    def __init__(self, root: Path, every_seconds: float = EVERY_SECONDS) -> None:
        self._root = root
        self._every = every_seconds
        self._bytes: int | None = None
        self._next = 0.0
        self._lock = threading.Lock()

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering must not look at the disk."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Both families; the blobs' has no value until they were added up for the first time."""
        self._begin()
        blobs = GaugeMetricFamily("graft_blob_bytes", "Size of all blobs, as added up within the last minutes.")
        if self._bytes is not None:
            blobs.add_metric([], self._bytes)
        yield blobs
        free = GaugeMetricFamily("graft_disk_free_bytes", "Free bytes on the disk of the data folder.")
        with contextlib.suppress(OSError):
            free.add_metric([], shutil.disk_usage(self._root).free)
        yield free

    def _begin(self) -> None:
        with self._lock:
            if time.monotonic() < self._next:
                return
            self._next = float("inf")
        thread = threading.Thread(target=self._add_up, name="blob-bytes", daemon=True)
        thread.start()
        thread.join(WAIT_SECONDS)  # a small folder is added up in no time

    def _add_up(self) -> None:
        try:
            self._bytes = sum(_sizes(self._root))
        except OSError:
            self._bytes = None
        self._next = time.monotonic() + self._every


def _sizes(root: Path) -> Iterator[int]:
    for folder in os.scandir(root):
        if folder.is_dir(follow_symlinks=False):
            for entry in os.scandir(folder):
                with contextlib.suppress(FileNotFoundError):  # removed in this very moment
                    yield entry.stat(follow_symlinks=False).st_size
