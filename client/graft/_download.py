"""Downloads that resume, are checked, and appear under their name only when they are whole."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import httpx2

from graft._transport import Call, Transport
from graft.errors import DownloadError, NotFoundError

OnProgress = Callable[[int, int | None], None]
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _ChangedError(Exception):
    """The part on disk does not belong to what the service has now."""


def download(transport: Transport, url: str, target: Path, on_progress: OnProgress | None = None) -> Path:
    """Download `url` to `target`, going on where an earlier try was cut off.

    The part so far lies beside the target as `.<name>.<sha256>.part`. Raises `DownloadError` if the bytes
    do not have the SHA-256 that the service announced as ETag.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = _size(_part(target))
        try:
            part, sha256 = _fetch(transport, url, target, on_progress)
            break
        except _ChangedError:
            continue
        except httpx2.TransportError as error:
            failures = 0 if _size(_part(target)) > before else failures
            if not transport.retries.allows(failures):
                raise transport.unreachable(error) from error
            transport.retries.wait(failures)
            failures += 1
    _verify(part, sha256, url)
    part.replace(target)
    return target


def _fetch(transport: Transport, url: str, target: Path, on_progress: OnProgress | None) -> tuple[Path, str | None]:
    part = _part(target)
    have = _size(part)
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if part is not None and have:
        headers |= {"Range": f"bytes={have}-", "If-Range": f'"{_sha256_in(part.name)}"'}
    try:
        with transport.open(Call("GET", url, headers=headers)) as response:
            return _receive(response, part, have, target, on_progress)
    except NotFoundError:
        if part is not None:
            part.unlink()
        raise
    except Exception as error:
        if getattr(error, "status", None) == 416 and part is not None:
            return _whole_or_gone(part)
        raise


def _receive(
    response: httpx2.Response, part: Path | None, have: int, target: Path, on_progress: OnProgress | None
) -> tuple[Path, str | None]:
    sha256 = _sha256_in(response.headers.get("ETag", ""))
    resumed = response.status_code == 206 and part is not None
    if not resumed:
        if part is not None:
            part.unlink()
        part, have = target.with_name(f".{target.name}.{sha256 or 'unnamed'}.part"), 0
    assert part is not None
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else None
    with part.open("ab" if resumed else "wb") as file:
        for chunk in response.iter_raw():
            file.write(chunk)
            have += len(chunk)
            if on_progress is not None:
                on_progress(have, total)
        file.flush()
        os.fsync(file.fileno())
    return part, sha256 or _sha256_in(part.name)


def _whole_or_gone(part: Path) -> tuple[Path, str | None]:
    """The range begins behind the end: either everything is here already, or the part is something else."""
    sha256 = _sha256_in(part.name)
    if sha256 is not None and _digest(part) == sha256:
        return part, sha256
    part.unlink()
    raise _ChangedError


def _verify(part: Path, sha256: str | None, url: str) -> None:
    if sha256 is not None and _digest(part) != sha256:
        part.unlink()
        raise DownloadError(
            f"What arrived from {url} does not have the SHA-256 that the service announced.",
            hint="The copy was thrown away; download it again.",
        )


def _part(target: Path) -> Path | None:
    """What an earlier try left; parts without a hash in their name cannot be resumed safely."""
    found = (p for p in target.parent.glob(f".{_literal(target.name)}.*.part") if _sha256_in(p.name))
    return next(found, None)


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _sha256_in(text: str) -> str | None:
    match = _SHA256.search(text)
    return match and match.group()


def _size(path: Path | None) -> int:
    return path.stat().st_size if path is not None and path.exists() else 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
