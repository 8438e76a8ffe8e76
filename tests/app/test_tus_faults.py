"""Resumable uploads interrupted in every way that can be arranged, by hand and by a stock client."""

import hashlib
import io
import os
import socket
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from tusclient.client import TusClient
from tusclient.exceptions import TusUploadFailed

from app.uploads.service import Uploads
from core.settings import Settings
from core.store import uploads
from core.store.store import Store
from tests.app.conftest import serving
from tests.app.tus import CHUNK, MIB, TUS, Api, b64, begin, offset, patch, pending, until
from tests.builders import folder_zip


@pytest.fixture(scope="module")
def archive() -> bytes:
    return folder_zip({"cat": 4, "dog": 4})


def test_a_full_disk_keeps_what_fitted(
    sqlite_client: TestClient, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(6 * MIB)
    path = begin(sqlite_client, len(data))
    whole = Path.open

    class Full:
        """A file on a disk that has room for three mebibytes and a bit, as the kernel shows it."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: memoryview) -> int:
            room = 3 * MIB + 17 - self.file.tell()
            if room <= 0:
                raise OSError(28, "No space left on device")
            return int(self.file.write(data[:room]))

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

    def opened(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = whole(self, mode, *args, **options)
        return Full(file) if mode == "r+b" else file

    monkeypatch.setattr(Path, "open", opened)
    reply = patch(sqlite_client, path, 0, data)
    monkeypatch.undo()
    assert (reply.status_code, reply.json()["error"]["code"]) == (507, "disk_full")
    assert offset(sqlite_client, path) == 3 * MIB + 17
    done = patch(sqlite_client, path, 3 * MIB + 17, data[3 * MIB + 17 :])
    assert sqlite_store.blob(hashlib.sha256(data).hexdigest()).read_bytes() == data
    assert done.headers["Graft-Dataset"]


def test_bytes_beyond_the_count_are_cut_off_and_missing_ones_are_told(
    client: TestClient, store: Store, archive: bytes
) -> None:
    path = begin(client, len(archive))
    patch(client, path, 0, archive[:60])
    (file,) = pending(store)
    with file.open("ab") as more:
        more.write(b"left by a crash" * 1000)
    assert patch(client, path, 60, archive[60:]).headers["Graft-Dataset"]
    assert store.blob(hashlib.sha256(archive).hexdigest()).read_bytes() == archive

    path = begin(client, len(archive))
    patch(client, path, 0, archive[:60])
    os.truncate(pending(store)[0], 59)
    reply = patch(client, path, 60, archive[60:])
    assert (reply.status_code, reply.json()["error"]["code"]) == (410, "upload_lost")
    record = client.get(path).json()
    assert (record["state"], record["error"]["code"]) == ("failed", "upload_lost")
    assert pending(store) == []


@pytest.mark.parametrize("moved", [False, True])
def test_an_end_that_a_crash_cut_off_is_made_up_for(
    client: TestClient, store: Store, archive: bytes, moved: bool
) -> None:
    """The process died after the last byte was counted; or even after the file had got its name as a blob."""
    path = begin(client, len(archive))
    upload_id = path.rsplit("/", 1)[1]
    sha256 = hashlib.sha256(archive).hexdigest()
    patch(client, path, 0, archive[:-1])
    file = store.blobs.upload(upload_id)
    with file.open("ab") as more:
        more.write(archive[-1:])
    with store.db.write() as tx:
        assert uploads.advance(tx, upload_id, len(archive) - 1, len(archive), 60.0)
        if moved:
            uploads.remember(tx, uploads.find(tx, "default", upload_id), sha256)
            store.blobs.adopt(file, sha256)
    head = client.head(path, headers=TUS)
    assert head.headers["Upload-Offset"] == str(len(archive))
    assert client.get(f"/datasets/{head.headers['Graft-Dataset']}").json()["sha256"] == sha256
    assert store.blob(sha256).read_bytes() == archive
    assert len(client.get("/datasets").json()["data"]) == 1


def test_of_two_writers_one_wins(app_settings: Settings, store: Store) -> None:
    """Two API processes on one data folder; the second writer is told to wait while the first one is at it."""
    data = os.urandom(4 * MIB)
    with serving(app_settings) as one, serving(app_settings) as two:
        go, stop = threading.Event(), threading.Event()

        def slowly() -> Any:
            yield data[: 2 * MIB]
            go.set()
            stop.wait(60)
            yield data[2 * MIB :]

        replies: list[Any] = []
        with httpx2.Client(base_url=one, timeout=60) as first, httpx2.Client(base_url=two, timeout=60) as second:
            path = begin(first, len(data))
            thread = threading.Thread(target=lambda: replies.append(patch(first, path, 0, slowly())))
            thread.start()
            go.wait(60)
            until(lambda: pending(store)[0].stat().st_size)
            for other in (first, second):
                busy = patch(other, path, 0, b"y" * len(data))
                assert (busy.status_code, busy.json()["error"]["code"]) == (423, "upload_locked")
            stop.set()
            thread.join(60)
            assert replies[0].status_code == 204, replies[0].text
            assert patch(second, path, 0, b"y").status_code == 409
    assert store.blob(hashlib.sha256(data).hexdigest()).read_bytes() == data


def test_many_writers_at_once_make_one_file(sqlite_server: str, sqlite_store: Store, archive: bytes) -> None:
    with httpx2.Client(base_url=sqlite_server, timeout=60) as client:
        path = begin(client, len(archive))
        replies: list[int] = []
        threads = [
            threading.Thread(target=lambda: replies.append(patch(client, path, 0, archive).status_code))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert replies.count(204) == 1
        assert set(replies) <= {204, 409, 423}
        assert len(client.get("/datasets").json()["data"]) == 1


def test_a_writer_who_comes_as_the_file_becomes_a_data_set_is_not_told_of_a_loss(
    client: TestClient, store: Store, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read that the upload is open, and when it opens the file another request has finished with it."""
    path = begin(client, len(archive))
    read = Uploads.settled

    def overtaken(service: Uploads, upload_id: str) -> uploads.Kept:
        kept = read(service, upload_id)
        monkeypatch.undo()
        assert patch(client, path, 0, archive).status_code == 204
        return kept

    monkeypatch.setattr(Uploads, "settled", overtaken)
    reply = patch(client, path, 0, archive)
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "wrong_offset")
    record = client.get(path).json()
    assert (record["state"], record["received"]) == ("done", len(archive))


def test_a_file_on_its_way_to_a_blob_is_busy_not_lost(client: TestClient, store: Store, archive: bytes) -> None:
    """The other request has given it its name and not yet told the store."""
    path = begin(client, len(archive))
    upload_id = path.rsplit("/", 1)[1]
    sha256 = hashlib.sha256(archive).hexdigest()
    with store.db.write() as tx:
        uploads.remember(tx, uploads.find(tx, "default", upload_id), sha256)
    store.blobs.upload(upload_id).write_bytes(archive)
    store.blobs.adopt(store.blobs.upload(upload_id), sha256)
    reply = patch(client, path, 0, archive)
    assert (reply.status_code, reply.json()["error"]["code"]) == (423, "upload_locked")
    assert client.get(path).json()["state"] == "open"


@pytest.mark.parametrize("checked", [False, True])
def test_a_cut_connection_keeps_what_arrived_unless_it_was_to_be_checked(sqlite_server: str, checked: bool) -> None:
    host, port = sqlite_server.removeprefix("http://").split(":")
    with httpx2.Client(base_url=sqlite_server, timeout=60) as client:
        path = begin(client, 8 * MIB)
        line = f"Upload-Checksum: sha1 {b64(b'0' * 20)}\r\n" if checked else ""
        head = "".join(f"{name}: {value}\r\n" for name, value in CHUNK.items())
        with socket.create_connection((host, int(port))) as connection:
            sizes = f"Upload-Offset: 0\r\nContent-Length: {8 * MIB}\r\n"
            text = f"PATCH {path} HTTP/1.1\r\nHost: localhost\r\n{sizes}{head}{line}\r\n"
            connection.sendall(text.encode() + b"x" * (3 * MIB + 5))
        if checked:
            until(lambda: patch(client, path, 0, b"").status_code == 204)  # the lock is free again
            assert offset(client, path) == 0
        else:
            # What the server had not yet read from the line is lost.
            until(lambda: offset(client, path) > 2 * MIB)


def test_a_stock_client_uploads_and_resumes(sqlite_server: str, sqlite_store: Store) -> None:
    data = os.urandom(5 * MIB + 3)
    client: Any = TusClient(f"{sqlite_server}/uploads")
    metadata = {"name": "flowers", "sha256": hashlib.sha256(data).hexdigest()}
    options: dict[str, Any] = {"chunk_size": MIB, "metadata": metadata, "upload_checksum": True}
    first: Any = client.uploader(file_stream=io.BytesIO(data), **options)
    first.upload(stop_at=2 * MIB)
    assert first.offset == 2 * MIB
    second: Any = client.uploader(file_stream=io.BytesIO(data), url=first.url, **options)
    assert second.offset == 2 * MIB
    second.upload()
    made = httpx2.get(f"{sqlite_server}/datasets/{second.request.response_headers['graft-dataset']}").json()
    assert (made["name"], made["sha256"]) == ("flowers", metadata["sha256"])
    assert sqlite_store.blob(made["sha256"]).read_bytes() == data


def test_an_upload_outlives_a_killed_api(settings: Settings, sqlite_store: Store) -> None:
    """Killed between two chunks, and in the middle of one that is longer than what is counted at a time."""
    data = os.urandom(40 * MIB + 11)
    api = Api(settings)
    try:
        api.start()
        client: Any = TusClient(f"{api.url}/uploads")
        options: dict[str, Any] = {"chunk_size": 4 * MIB, "metadata": {"sha256": hashlib.sha256(data).hexdigest()}}
        first: Any = client.uploader(file_stream=io.BytesIO(data), **options)
        first.upload_chunk()
        api.kill()
        with pytest.raises(TusUploadFailed):
            first.upload_chunk()
        api.start()
        assert offset(httpx2, first.url) == 4 * MIB
        with socket.create_connection(("127.0.0.1", api.port)) as connection:
            head = "".join(f"{name}: {value}\r\n" for name, value in CHUNK.items())
            where = first.url.removeprefix(api.url)
            rest = f"Host: localhost\r\nUpload-Offset: {4 * MIB}\r\nContent-Length: {36 * MIB + 11}\r\n{head}\r\n"
            connection.sendall(f"PATCH {where} HTTP/1.1\r\n{rest}".encode() + data[4 * MIB : 30 * MIB])
            until(lambda: offset(httpx2, first.url) > 4 * MIB)
            api.kill()
        api.start()
        begun = offset(httpx2, first.url)
        assert 20 * MIB <= begun <= 30 * MIB
        last: Any = client.uploader(file_stream=io.BytesIO(data), url=first.url, **options)
        last.upload()
        made = httpx2.get(f"{api.url}/datasets/{last.request.response_headers['graft-dataset']}").json()
        assert sqlite_store.blob(made["sha256"]).read_bytes() == data
        assert pending(sqlite_store) == []
    finally:
        api.kill()
