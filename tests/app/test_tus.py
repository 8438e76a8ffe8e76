"""Resumable uploads, tus 1.0: what is taken, what is refused, what becomes of it."""

import hashlib
from datetime import timedelta

import psutil
import pytest
from fastapi.testclient import TestClient

from core.contract.base import now
from core.settings import Settings
from core.store import tenants, uploads
from core.store.store import Store
from core.store.tables import uploads as uploads_table
from tests.app.conftest import neighbour
from tests.app.seed import OTHER
from tests.app.tus import CHUNK, TUS, b64, begin, offset, patch, pending, said
from tests.builders import folder_zip


@pytest.fixture(scope="module")
def archive() -> bytes:
    return folder_zip({"cat": 4, "dog": 4})


def test_the_service_says_what_it_can(sqlite_client: TestClient) -> None:
    reply = sqlite_client.options("/uploads")
    assert reply.status_code == 204
    assert reply.headers["Tus-Resumable"] == reply.headers["Tus-Version"] == "1.0.0"
    extensions = {"creation", "creation-with-upload", "expiration", "checksum", "termination"}
    assert set(reply.headers["Tus-Extension"].split(",")) == extensions
    assert reply.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"
    assert int(reply.headers["Tus-Max-Size"]) == Settings().max_upload_bytes


def test_pieces_become_a_data_set(client: TestClient, store: Store, archive: bytes) -> None:
    header = said(filename="C:\\pets.zip", seed="7", metadata='{"team": "vision"}', filetype="application/zip")
    path = begin(client, len(archive), Upload_Metadata=header)
    head = client.head(path, headers=TUS)
    assert (head.headers["Upload-Offset"], head.headers["Upload-Length"]) == ("0", str(len(archive)))
    assert (head.headers["Cache-Control"], head.headers["Upload-Metadata"]) == ("no-store", header)
    assert head.headers["Upload-Expires"].endswith("GMT")
    third = len(archive) // 3
    for start in (0, third):
        reply = patch(client, path, start, archive[start : start + third])
        assert (reply.status_code, reply.headers["Upload-Offset"]) == (204, str(start + third))
        assert "Graft-Dataset" not in reply.headers
    assert client.get(path).json()["received"] == 2 * third
    last = patch(client, path, 2 * third, archive[2 * third :])
    made = client.get(f"/datasets/{last.headers['Graft-Dataset']}").json()
    assert (made["name"], made["state"], made["bytes"]) == ("pets.zip", "validating", len(archive))
    assert (made["metadata"], made["sha256"]) == ({"team": "vision"}, hashlib.sha256(archive).hexdigest())
    assert store.blob(made["sha256"]).read_bytes() == archive
    assert pending(store) == []
    record = client.get(path).json()
    assert (record["state"], record["dataset_id"], record["metadata"]) == ("done", made["id"], {"team": "vision"})
    assert client.get("/uploads?state=done").json()["data"] == [record]
    again = patch(client, path, len(archive), b"")  # the reply was lost: asking again does no harm
    assert (again.status_code, again.headers["Graft-Dataset"]) == (204, made["id"])
    assert len(client.get("/datasets").json()["data"]) == 1


def test_the_first_bytes_may_come_with_the_beginning(sqlite_client: TestClient, archive: bytes) -> None:
    headers = {**CHUNK, "Upload-Length": str(len(archive))}
    part = sqlite_client.post("/uploads", content=archive[:100], headers=headers)
    assert (part.status_code, part.headers["Upload-Offset"], part.json()["received"]) == (201, "100", 100)
    whole = sqlite_client.post("/uploads", content=archive, headers=headers)
    assert (whole.json()["state"], whole.headers["Graft-Dataset"]) == ("done", whole.json()["dataset_id"])
    other = sqlite_client.post("/uploads", content=archive, headers={**headers, "Content-Type": "application/zip"})
    assert (other.status_code, other.json()["error"]["param"]) == (415, "Content-Type")


def test_a_key_begins_one_upload(client: TestClient) -> None:
    first, second = (begin(client, 10, Idempotency_Key="k") for _ in range(2))
    assert first == second
    other = client.post("/uploads", headers={**TUS, "Upload-Length": "11", "Idempotency-Key": "k"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("headers", "status", "code", "param"),
    [
        ({"Upload-Length": "5"}, 412, "unsupported_tus_version", "Tus-Resumable"),
        ({"Tus-Resumable": "0.2.2", "Upload-Length": "5"}, 412, "unsupported_tus_version", "Tus-Resumable"),
        (TUS, 422, "missing_field", "Upload-Length"),
        ({**TUS, "Upload-Defer-Length": "1"}, 422, "missing_field", "Upload-Length"),
        ({**TUS, "Upload-Length": "-1"}, 422, "invalid_value", "Upload-Length"),
        ({**TUS, "Upload-Length": "1e3"}, 422, "invalid_value", "Upload-Length"),
        ({**TUS, "Upload-Length": "9" * 400}, 422, "invalid_value", "Upload-Length"),
        ({**TUS, "Upload-Length": "0"}, 422, "empty_upload", "Upload-Length"),
        ({**TUS, "Upload-Length": str(10**15)}, 413, "upload_too_large", None),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": said(nam="x")}, 422, "unknown_field", "nam"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": "name ???"}, 422, "invalid_value", "name"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": "name /w=="}, 422, "invalid_value", "name"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": "name eA==,name eQ=="}, 422, "repeated_field", "name"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": said(seed="x")}, 422, "wrong_type", "seed"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": said(metadata="{")}, 422, "invalid_value", "metadata"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": said(name="a\0b")}, 422, "invalid_value", "name"),
        (
            {**TUS, "Upload-Length": "5", "Upload-Metadata": said(metadata='{"a": "\\u0000"}')},
            422,
            "invalid_value",
            "metadata.a",
        ),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": said(sha256="abc")}, 422, "invalid_value", "sha256"),
        ({**CHUNK, "Upload-Length": "5", "Upload-Checksum": "md5 eA=="}, 400, "invalid_checksum", "Upload-Checksum"),
    ],
)
def test_a_wrong_beginning_is_refused(
    sqlite_client: TestClient, sqlite_store: Store, headers: dict[str, str], status: int, code: str, param: str | None
) -> None:
    reply = sqlite_client.post("/uploads", headers=headers)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["hint"]
    assert reply.headers["Tus-Resumable"] == "1.0.0"
    assert ("Tus-Version" in reply.headers) == (status == 412)
    assert pending(sqlite_store) == []
    assert sqlite_client.get("/uploads").json()["data"] == []


def test_a_wrong_chunk_is_refused_and_changes_nothing(sqlite_client: TestClient, archive: bytes) -> None:
    path = begin(sqlite_client, len(archive))
    patch(sqlite_client, path, 0, archive[:50])
    for start, data, headers, status, code in (
        (0, archive[:50], {}, 409, "wrong_offset"),
        (51, archive[51:], {}, 409, "wrong_offset"),
        (50, archive, {}, 422, "upload_overrun"),
        (50, iter([archive, archive]), {}, 422, "upload_overrun"),
        (50, b"x", {"Content_Type": "application/zip"}, 415, "unsupported_media_type"),
        (50, b"x", {"Tus_Resumable": "2.0.0"}, 412, "unsupported_tus_version"),
        (50, b"x", {"Upload_Checksum": "sha1 x"}, 400, "invalid_checksum"),
        (50, b"x", {"Upload_Checksum": f"sha256 {b64(b'0' * 32)}"}, 460, "chunk_checksum_mismatch"),
    ):
        reply = patch(sqlite_client, path, start, data, **headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
        assert offset(sqlite_client, path) == 50
    good = f"sha256 {b64(hashlib.sha256(archive[50:]).digest())}"
    assert patch(sqlite_client, path, 50, archive[50:], Upload_Checksum=good).headers["Graft-Dataset"]


def test_a_file_that_is_not_what_was_announced_fails(client: TestClient, store: Store, archive: bytes) -> None:
    path = begin(client, len(archive), Upload_Metadata=said(sha256="0" * 64))
    reply = patch(client, path, 0, archive)
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "checksum_mismatch")
    record = client.get(path).json()
    assert (record["state"], record["error"]["code"], record["dataset_id"]) == ("failed", "checksum_mismatch", None)
    assert patch(client, path, len(archive), b"").status_code == 410
    assert (pending(store), client.get("/datasets").json()["data"]) == ([], [])
    right = begin(client, len(archive), Upload_Metadata=said(sha256=hashlib.sha256(archive).hexdigest()))
    assert patch(client, right, 0, archive).headers["Graft-Dataset"]


def test_giving_up_leaves_nothing(client: TestClient, store: Store) -> None:
    path = begin(client, 100)
    patch(client, path, 0, b"x" * 50)
    assert client.delete(path).status_code == 412
    assert client.delete(path, headers=TUS).status_code == 204
    assert pending(store) == []
    for reply in (client.head(path, headers=TUS), client.get(path), patch(client, path, 50, b"x")):
        assert reply.status_code == 404
    assert client.delete(path, headers=TUS).status_code == 404


def test_another_tenants_upload_is_none(client: TestClient, store: Store) -> None:
    path = begin(client, 100)
    with store.db.write() as tx:
        tx.execute(uploads_table.update().values(tenant=OTHER))
    for reply in (
        client.get(path),
        client.head(path, headers=TUS),
        patch(client, path, 0, b"x"),
        client.delete(path, headers=TUS),
        client.get("/uploads/nonsense"),
    ):
        assert reply.status_code == 404
    assert client.get("/uploads").json()["data"] == []


def test_an_expired_upload_is_gone_and_collected(client: TestClient, store: Store) -> None:
    old, young = begin(client, 100), begin(client, 100)
    patch(client, old, 0, b"x")
    with store.db.write() as tx:
        overdue = uploads_table.c.id == old.rsplit("/", 1)[1]
        tx.execute(uploads_table.update().where(overdue).values(expires_at=now() - timedelta(seconds=1)))
    assert client.get(old).status_code == client.head(old, headers=TUS).status_code == 410
    assert patch(client, old, 1, b"x").json()["error"]["code"] == "upload_expired"
    assert [one["id"] for one in client.get("/uploads").json()["data"]] == [young.rsplit("/", 1)[1]]
    with store.db.write() as tx:
        assert uploads.expire(tx) == [old.rsplit("/", 1)[1]]
        assert uploads.expire(tx) == []
        assert uploads.needed(tx, young.rsplit("/", 1)[1])
        assert not uploads.needed(tx, old.rsplit("/", 1)[1])
    assert client.get(old).status_code == 404


def test_the_storage_quota_counts_what_is_announced(settings: Settings, sqlite_store: Store, archive: bytes) -> None:
    with neighbour(settings.model_copy(update={"quota_bytes": 1000})) as client:
        begin(client, 600)
        reply = client.post("/uploads", headers={**TUS, "Upload-Length": "600"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "storage_quota_exceeded")
        assert len(pending(sqlite_store)) == 1
    with sqlite_store.db.read() as tx:
        assert tenants.usage(tx, "default", settings).bytes == 600


def test_what_can_never_fit_is_refused_at_the_beginning(settings: Settings, sqlite_store: Store) -> None:
    size = psutil.disk_usage(str(settings.root)).free * 2
    with neighbour(settings.model_copy(update={"max_upload_bytes": 2**60})) as client:
        reply = client.post("/uploads", headers={**TUS, "Upload-Length": str(size)})
    assert (reply.status_code, reply.json()["error"]["code"]) == (507, "disk_full")
