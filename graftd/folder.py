"""The data folder belongs to one running graftd: a lock that ends with its holder, and a note of where it listens."""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from core.settings import Settings
from graftd.problems import ProblemError


@dataclass(frozen=True)
class Running:
    """A service that runs on a data folder."""

    pid: int
    address: str
    ready: bool = False


class DataFolder:
    """A data folder as graftd sees it."""

    def __init__(self, settings: Settings) -> None:
        self.root = settings.root
        self.logs = self.root / "logs"
        self._lock_path = self.root / "graftd.lock"
        self._lock: IO[str] | None = None

    def prepare(self) -> None:
        """Make it and see that it can be written to."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe-{os.getpid()}"
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError as error:
            raise ProblemError(
                f"The data folder {self.root} cannot be written to ({error.strerror}).",
                "Choose another one with --data-dir (or GRAFT_DATA_DIR), or mend its permissions or free space.",
            ) from error

    def take(self, address: str) -> None:
        """Lock it for this process; `ProblemError` if another graftd has it."""
        file = self._lock_path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            other = self.running()
            whose = f"graftd with process id {other.pid} at {other.address}" if other else "another graftd"
            raise ProblemError(
                f"The data folder {self.root} is in use by {whose}.",
                "Stop that one with `graftd down`, or choose another folder with --data-dir.",
            ) from error
        self._lock = file
        self.note(Running(os.getpid(), address))

    def note(self, running: Running) -> None:
        """Write down where the service listens."""
        if self._lock is None:
            raise RuntimeError("the folder is not locked")
        self._lock.seek(0)
        self._lock.truncate()
        json.dump(asdict(running), self._lock)
        self._lock.flush()

    def release(self) -> None:
        """Give it back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def running(self) -> Running | None:
        """Who has locked the folder; None if nobody."""
        try:
            with self._lock_path.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    return _parse(self._lock_path)
                return None
        except OSError:
            return None


def _parse(path: Path) -> Running | None:
    try:
        return Running(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return Running(0, "an unknown address")  # it has the lock, but has not written its note yet
