"""Uploads in pieces by the SDK: over a killed API, a line that breaks again and again, and a slow unlock."""

import io
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from core.settings import Settings
from core.store.store import Store
from graft import APIConnectionError, Graft, InvalidRequestError, _resumable
from graft.cli import main
from tests.app.conftest import serving as real
from tests.app.tus import MIB, Api, pending
from tests.builders import folder_zip
from tests.client.conftest import DATASET, dataset, error
from tests.client.scripted import Answer, Script, Seen, serving

UPLOAD = "upl_00000000000000000000000001"
PATH = f"/uploads/{UPLOAD}"


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_resumable, "CHUNK_BYTES", MIB)


def test_an_upload_goes_on_after_the_api_was_killed(settings: Settings, sqlite_store: Store) -> None:
    data = os.urandom(6 * MIB + 5)
    api = Api(settings)
    kills = [2 * MIB, 4 * MIB]
    restarts: list[threading.Thread] = []

    def kill_now_and_then(sent: int, _total: int) -> None:
        if kills and sent >= kills[0]:
            kills.pop(0)
            api.kill()
            restarts.append(threading.Thread(target=api.start))
            restarts[-1].start()

    try:
        api.start()
        with Graft(api.url) as client:
            made = client.datasets.upload(
                io.BytesIO(data),
                name="mine",
                seed=3,
                metadata={"a": "b"},
                resumable=True,
                on_progress=kill_now_and_then,
            )
        assert not kills
        assert (made.name, made.state, made.bytes, made.metadata) == ("mine", "validating", len(data), {"a": "b"})
        assert sqlite_store.blob(made.sha256).read_bytes() == data
        assert pending(sqlite_store) == []
    finally:
        for thread in restarts:
            thread.join()
        api.kill()


@contextmanager
def cutting(url: str, every: int) -> Iterator[str]:
    """A proxy that cuts each connection once it has passed on so many bytes; yields its address."""
    host, port = url.removeprefix("http://").split(":")
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def carry(source: socket.socket, target: socket.socket, left: int) -> None:
        with suppress(OSError):
            while left > 0 and (data := source.recv(min(65536, left))):
                target.sendall(data)
                left -= len(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((host, int(port)))
                ends.extend((near, far))
                for one, other, left in ((near, far, every), (far, near, 2**60)):
                    threads.append(threading.Thread(target=carry, args=(one, other, left)))
                    threads[-1].start()

    ends: list[socket.socket] = []
    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for end in ends:
            end.close()


def test_an_upload_goes_on_after_every_cut_of_the_line(settings: Settings, sqlite_store: Store) -> None:
    data = os.urandom(8 * MIB)
    with real(settings) as url, cutting(url, 2 * MIB + 100_000) as bad_line, Graft(bad_line) as client:
        made = client.datasets.upload(data, resumable=True)
    assert sqlite_store.blob(made.sha256).read_bytes() == data


def _begun(_seen: Seen) -> Answer:
    return Answer(201, {"id": UPLOAD})


def test_a_lock_is_waited_for_and_a_lost_reply_asked_for(naps: list[float], connect: Callable[..., Graft]) -> None:
    script: Script = {
        ("POST", "/uploads"): [_begun],
        ("PATCH", PATH): [
            Answer(423, error("upload_locked", "conflict")),
            Answer(460, error("chunk_checksum_mismatch")),
            Answer(502),
        ],
        ("HEAD", PATH): [
            Answer(200, headers={"Upload-Offset": "0"}),
            Answer(200, headers={"Upload-Offset": "0"}),
            Answer(200, headers={"Upload-Offset": "3", "Graft-Dataset": DATASET}),
        ],
        ("GET", f"/datasets/{DATASET}"): [Answer(200, dataset("validating"))],
    }
    with serving(script) as service:
        made = connect(service.url).datasets.upload(b"abc", resumable=True)
    assert made.id == DATASET
    assert len(naps) == 3


def test_what_will_not_pass_is_told_at_once(connect: Callable[..., Graft]) -> None:
    refusal = Answer(422, error("checksum_mismatch"))
    script: Script = {("POST", "/uploads"): [_begun], ("PATCH", PATH): [refusal]}
    with serving(script) as service, pytest.raises(InvalidRequestError, match="checksum_mismatch"):
        connect(service.url).datasets.upload(b"abc", resumable=True)


def test_patience_ends(connect: Callable[..., Graft]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(APIConnectionError):
        connect(f"http://127.0.0.1:{port}").datasets.upload(b"abc", resumable=True)


@pytest.mark.parametrize(("size", "wish", "pieces"), [(11, None, True), (10, None, False), (11, False, False)])
def test_large_files_go_in_pieces_by_themselves(
    settings: Settings,
    sqlite_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    wish: bool | None,
    pieces: bool,
) -> None:
    monkeypatch.setattr("graft.resources.datasets.FROM_BYTES", 10)
    with real(settings) as url, Graft(url) as client:
        made = client.datasets.upload(b"x" * size, resumable=wish)
        listed = client._transport._http.get("/uploads").json()["data"]
    assert made.bytes == size
    assert [one["dataset_id"] for one in listed] == ([made.id] if pieces else [])


def test_the_command_line_sends_in_pieces(
    settings: Settings, sqlite_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "pets.zip"
    archive.write_bytes(folder_zip({"a": 2, "b": 2}))
    with capture_logs(), real(settings) as url:
        arguments = ["--url", url, "datasets", "upload", str(archive), "--resumable", "--no-wait", "--json"]
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code in (0, None)
    made = json.loads(capsys.readouterr().out)
    assert made["name"] == "pets"
    assert sqlite_store.blob(made["sha256"]).read_bytes() == archive.read_bytes()
