"""Uploads: streamed, bounded, all or nothing."""

import hashlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
from fastapi.testclient import TestClient

from core.settings import Settings
from core.store.store import Store
from tests.app.conftest import serving
from tests.builders import folder_tar, folder_zip

ZIP = {"Content-Type": "application/zip"}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def archive() -> bytes:
    return folder_zip({"cat": 4, "dog": 4})


def blobs(store: Store) -> list[Path]:
    """Every file in the folder of blobs, pending ones too."""
    return [path for path in store.blobs.root.rglob("*") if path.is_file()]


def test_a_raw_body_becomes_a_data_set(client: TestClient, store: Store, archive: bytes) -> None:
    reply = client.post("/datasets?name=pets&seed=7", content=archive, headers=ZIP)
    made = reply.json()
    assert reply.status_code == 201
    assert reply.headers["Location"] == f"/datasets/{made['id']}"
    assert (made["name"], made["state"], made["bytes"]) == ("pets", "validating", len(archive))
    assert made["sha256"] == hashlib.sha256(archive).hexdigest()
    assert client.get(f"/datasets/{made['id']}").json() == made
    assert [path.name for path in blobs(store)] == [made["sha256"]]
    assert store.blob(made["sha256"]).read_bytes() == archive


def test_a_form_becomes_a_data_set(client: TestClient, store: Store, archive: bytes) -> None:
    form = {"seed": "3", "metadata": '{"team": "vision"}'}
    made = client.post("/datasets", data=form, files={"file": ("C:\\data\\pets.zip", archive)}).json()
    assert (made["name"], made["metadata"], made["bytes"]) == ("pets.zip", {"team": "vision"}, len(archive))
    assert store.blob(made["sha256"]).read_bytes() == archive


@pytest.mark.parametrize("size", [1, 3, 64 * 1024, MIB - 1, MIB, MIB + 1, 5 * MIB + 17])
def test_every_byte_of_a_form_arrives(sqlite_server: str, sqlite_store: Store, size: int) -> None:
    # Bytes that look like the start of a boundary again and again, cut into odd pieces.
    data = (b"\r\n--bound" * (size // 9 + 1))[:size]
    body = b"".join(
        [
            b'--boundary\r\nContent-Disposition: form-data; name="name"\r\n\r\nodd\r\n',
            b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\n',
            data,
            b"\r\n--boundary--\r\n",
        ]
    )
    pieces = (body[i : i + 70_001] for i in range(0, len(body), 70_001))
    headers = {"Content-Type": "multipart/form-data; boundary=boundary"}
    reply = httpx2.post(f"{sqlite_server}/datasets", content=pieces, headers=headers)
    assert reply.status_code == 201, reply.text
    assert reply.json()["sha256"] == hashlib.sha256(data).hexdigest()
    assert sqlite_store.blob(reply.json()["sha256"]).read_bytes() == data


def test_identical_bytes_are_stored_once(client: TestClient, store: Store, archive: bytes) -> None:
    first, second = (client.post("/datasets", content=archive, headers=ZIP).json() for _ in range(2))
    assert first["id"] != second["id"]
    assert len(blobs(store)) == 1
    assert client.delete(f"/datasets/{first['id']}").status_code == 204
    assert len(blobs(store)) == 1
    assert client.delete(f"/datasets/{second['id']}").status_code == 204
    assert blobs(store) == []
    assert client.get(f"/datasets/{first['id']}").json()["error"]["code"] == "dataset_not_found"


def _form(*parts: tuple[str, bytes]) -> bytes:
    lines = [b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (n.encode(), d) for n, d in parts]
    return b"".join([*lines, b"--b--\r\n"])


FORM = {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(
    ("query", "headers", "body", "status", "code", "param"),
    [
        ("", ZIP, b"", 422, "empty_upload", "file"),
        ("", FORM, _form(("file", b"")), 422, "empty_upload", "file"),
        ("", FORM, _form(("name", b"x")), 422, "missing_field", "file"),
        ("", FORM, _form(("file", b"x"), ("file", b"y")), 422, "repeated_field", "file"),
        ("", FORM, _form(("file", b"x"), ("nam", b"y")), 422, "unknown_field", "nam"),
        ("", FORM, _form(("file", b"x"), ("seed", b"y")), 422, "wrong_type", "seed"),
        ("", FORM, _form(("file", b"x"), ("metadata", b"{")), 422, "invalid_value", "metadata"),
        ("", FORM, _form(("file", b"x"), ("metadata", b'{"a": 1}')), 422, "wrong_type", "metadata.a"),
        ("", FORM, _form(("file", b"x"), ("name", b"\xff")), 422, "invalid_value", "name"),
        ("", FORM, _form(("file", b"x"), ("name", b"a" * 200_000)), 413, "too_large", "name"),
        ("", FORM, _form(("file", b"x"))[:-6], 400, "invalid_multipart", None),
        ("", FORM, b"no form at all", 400, "invalid_multipart", None),
        ("", {"Content-Type": "multipart/form-data"}, b"x", 400, "invalid_multipart", None),
        ("", {"Content-Type": "application/json"}, b"{}", 415, "unsupported_media_type", "Content-Type"),
        ("", {}, b"x", 415, "unsupported_media_type", "Content-Type"),
        ("?nam=x", ZIP, b"x", 422, "unknown_field", "nam"),
        ("?name=%00", ZIP, b"x", 422, "invalid_value", "name"),
        ("?seed=2147483648", ZIP, b"x", 422, "out_of_range", "seed"),
    ],
)
def test_a_wrong_upload_is_refused_and_leaves_nothing(
    sqlite_client: TestClient,
    sqlite_store: Store,
    query: str,
    headers: dict[str, str],
    body: bytes,
    status: int,
    code: str,
    param: str | None,
) -> None:
    reply = sqlite_client.post(f"/datasets{query}", content=body, headers=headers)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, param)
    if status == 415:
        assert "application/zip" in error["details"]["accepted"]
    assert blobs(sqlite_store) == []
    assert sqlite_client.get("/datasets").json()["data"] == []


def _chunks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"x" * MIB


def test_too_large_an_upload_is_413_and_leaves_nothing(sqlite_server: str, sqlite_store: Store) -> None:
    url = f"{sqlite_server}/datasets"
    for body, headers in (
        (_chunks(40), ZIP),
        (b"x" * (33 * MIB), ZIP),
        (_form(("file", b"x" * (32 * MIB + 1))), FORM),
    ):
        reply = httpx2.post(url, content=body, headers=headers, timeout=30)
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "upload_too_large")
        assert blobs(sqlite_store) == []
    assert httpx2.get(url).json()["data"] == []


def test_uploads_keep_memory_flat(sqlite_server: str) -> None:
    process = psutil.Process()
    httpx2.post(f"{sqlite_server}/datasets", content=_chunks(1), headers=ZIP, timeout=30).raise_for_status()
    before = process.memory_info().rss
    httpx2.post(f"{sqlite_server}/datasets", content=_chunks(32), headers=ZIP, timeout=30).raise_for_status()
    assert process.memory_info().rss - before < 24 * MIB


def test_a_client_that_goes_away_leaves_nothing(sqlite_server: str, sqlite_store: Store) -> None:
    host, port = sqlite_server.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /datasets HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/zip\r\n"
            b"Content-Length: 8000000\r\n\r\n" + b"x" * 4_000_000
        )
        _until(lambda: blobs(sqlite_store))
    _until(lambda: not blobs(sqlite_store))
    assert httpx2.get(f"{sqlite_server}/datasets").json()["data"] == []


def _until(true: object) -> None:
    deadline = time.monotonic() + 60
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_full_disk_is_507_and_leaves_nothing(
    sqlite_client: TestClient, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # /dev/full fails like a full disk; a link to it stands where the next pending blob will be opened.
    monkeypatch.setattr("core.store.blobs.new_id", lambda _prefix: "next")
    (sqlite_store.blobs.root / "pending" / "next").symlink_to("/dev/full")
    reply = sqlite_client.post("/datasets", content=b"x" * (2 * MIB), headers=ZIP)
    assert (reply.status_code, reply.json()["error"]["code"]) == (507, "disk_full")
    assert blobs(sqlite_store) == []
    assert list((sqlite_store.blobs.root / "pending").iterdir()) == []
    monkeypatch.undo()
    assert sqlite_client.post("/datasets", content=b"x", headers=ZIP).status_code == 201


def test_an_upload_that_cannot_fit_is_refused_before_it_is_sent(settings: Settings, sqlite_store: Store) -> None:
    size = psutil.disk_usage(str(settings.root)).free * 2
    with serving(settings.model_copy(update={"max_upload_bytes": 2**60})) as server:
        host, port = server.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.settimeout(5)
            head = "POST /datasets HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/zip\r\n"
            connection.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 507")
    assert blobs(sqlite_store) == []


def test_a_write_that_takes_a_part_only_is_completed(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with sqlite_store.blobs.writing() as blob:
        whole = blob._file

        class Short:
            """Takes seven bytes at a time, as the kernel may."""

            def write(self, data: memoryview) -> int:
                return whole.write(data[:7])

            def __getattr__(self, name: str) -> object:
                return getattr(whole, name)

        monkeypatch.setattr(blob, "_file", Short())
        blob.write(b"0123456789" * 10)
        assert blob.finish() == hashlib.sha256(b"0123456789" * 10).hexdigest()
        assert blob.path.read_bytes() == b"0123456789" * 10


def test_tar_and_octet_stream_are_taken(sqlite_client: TestClient) -> None:
    data = folder_tar({"a": 2, "b": 2}, gz=True)
    for media in ("application/gzip", "application/x-tar", "application/octet-stream", "application/zip; x=y"):
        assert sqlite_client.post("/datasets", content=data, headers={"Content-Type": media}).status_code == 201
