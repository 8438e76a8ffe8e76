"""Models over HTTP: list, download with conditions and ranges, single files, delete."""

import io
import zipfile
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from app.models.ranges import Span, UnsatisfiableRangeError, matches, wanted
from app.negotiation import preferred
from core.contract.base import new_id
from core.contract.jobs import JobSpec
from core.store import jobs
from core.store.store import Store
from tests.app.bundles import Bundle, make_bundle, one_model, put
from tests.builders import image_bytes


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Bundle]]:
    with one_model(tmp_path_factory.mktemp("shared")) as served:
        yield served


@pytest.fixture
def bundle(sqlite_store: Store) -> Bundle:
    return put(sqlite_store, make_bundle())


def test_a_model_is_listed_downloaded_and_deleted(store: Store, client: TestClient) -> None:
    ours = [put(store, make_bundle()) for _ in range(3)]
    put(store, make_bundle(), tenant="other")
    first = client.get("/models", params={"limit": 2}).json()
    rest = client.get("/models", params={"cursor": first["next_cursor"]}).json()
    listed = [model["id"] for model in first["data"] + rest["data"]]
    assert listed == sorted((b.model.id for b in ours), reverse=True)
    assert (first["has_more"], rest["has_more"]) == (True, False)
    path = f"/models/{ours[0].model.id}"
    assert client.get(path).content == ours[0].zip
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    assert not store.blobs.exists(ours[0].model.sha256)
    assert store.blobs.exists(ours[1].model.sha256)


def test_download_is_the_bundle(shared: tuple[TestClient, Bundle]) -> None:
    client, bundle = shared
    reply = client.get(f"/models/{bundle.model.id}")
    assert reply.status_code == 200
    assert reply.content == bundle.zip
    assert zipfile.ZipFile(io.BytesIO(reply.content)).testzip() is None
    assert reply.headers["content-type"] == "application/zip"
    assert reply.headers["etag"] == f'"{bundle.model.sha256}"'
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["content-disposition"] == f'attachment; filename="{bundle.model.id}.zip"'
    assert "Accept" in reply.headers["vary"]


def test_head_has_the_headers_alone(shared: tuple[TestClient, Bundle]) -> None:
    client, bundle = shared
    reply = client.head(f"/models/{bundle.model.id}", headers={"Range": "bytes=0-9"})
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["content-length"] == str(len(bundle.zip))


@pytest.mark.parametrize("tag", ['"{}"', 'W/"{}"', '"x", "{}"', "*"])
def test_unchanged_is_304(shared: tuple[TestClient, Bundle], tag: str) -> None:
    client, bundle = shared
    header = {"If-None-Match": tag.format(bundle.model.sha256)}
    reply = client.get(f"/models/{bundle.model.id}", headers=header)
    assert (reply.status_code, reply.content) == (304, b"")
    assert reply.headers["etag"] == f'"{bundle.model.sha256}"'


def test_changed_is_sent(shared: tuple[TestClient, Bundle]) -> None:
    client, bundle = shared
    assert client.get(f"/models/{bundle.model.id}", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, None),
        ("bytes=-50", -50, None),
        ("bytes=0-0", 0, 1),
        ("Bytes=7-7", 7, 8),
        ("bytes=10-999999999", 10, None),
        ("bytes=-999999999", 0, None),
    ],
)
def test_range(shared: tuple[TestClient, Bundle], header: str, start: int, stop: int | None) -> None:
    client, bundle = shared
    reply = client.get(f"/models/{bundle.model.id}", headers={"Range": header})
    assert reply.status_code == 206
    assert reply.content == bundle.zip[start:stop]
    first = start % len(bundle.zip) if start else 0
    last = first + len(reply.content) - 1
    assert reply.headers["content-range"] == f"bytes {first}-{last}/{len(bundle.zip)}"
    assert reply.headers["content-length"] == str(len(reply.content))


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=-", "bytes=a-b", "items=0-5", "bytes=0-1,4-5", "5-9"])
def test_ranges_that_do_not_count(shared: tuple[TestClient, Bundle], header: str) -> None:
    client, bundle = shared
    reply = client.get(f"/models/{bundle.model.id}", headers={"Range": header})
    assert (reply.status_code, reply.content) == (200, bundle.zip)


@pytest.mark.parametrize("header", ["bytes=99999999-", "bytes=-0"])
def test_range_outside_the_file(shared: tuple[TestClient, Bundle], header: str) -> None:
    client, bundle = shared
    reply = client.get(f"/models/{bundle.model.id}", headers={"Range": header})
    assert reply.status_code == 416
    assert reply.headers["content-range"] == f"bytes */{len(bundle.zip)}"
    assert reply.json()["error"]["code"] == "range_not_satisfiable"


def test_resuming_gives_the_same_bytes(shared: tuple[TestClient, Bundle]) -> None:
    client, bundle = shared
    path, half = f"/models/{bundle.model.id}", len(bundle.zip) // 2
    first = client.get(path, headers={"Range": f"bytes=0-{half - 1}"})
    rest = client.get(path, headers={"Range": f"bytes={half}-", "If-Range": first.headers["etag"]})
    assert first.content + rest.content == bundle.zip
    other = client.get(path, headers={"Range": f"bytes={half}-", "If-Range": '"another state"'})
    assert (other.status_code, other.content) == (200, bundle.zip)


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ("*/*", False),
        ("application/json", True),
        ("application/zip", False),
        ("application/json, */*", True),
        ("application/json;q=0.5, application/zip", False),
        ("application/json, application/zip;q=0.5", True),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("application/json;q=0, */*", False),
        ("image/png", False),
        ("application/json; charset=utf-8", True),
        ("APPLICATION/JSON", True),
        ("application/*;q=0.1", False),
    ],
)
def test_accept_chooses_the_form(shared: tuple[TestClient, Bundle], accept: str, json: bool) -> None:
    client, bundle = shared
    reply = client.get(f"/models/{bundle.model.id}", headers={"Accept": accept})
    assert reply.headers["content-type"] == ("application/json" if json else "application/zip")
    assert reply.headers["vary"] == "Accept"
    if json:
        assert reply.json()["manifest"]["classes"] == bundle.model.classes
        assert "offset" not in reply.json()["files"][0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.onnx", "application/octet-stream"),
        ("manifest.json", "application/json"),
        ("README.md", "text/markdown; charset=utf-8"),
    ],
)
def test_one_file_of_a_model(shared: tuple[TestClient, Bundle], name: str, kind: str) -> None:
    client, bundle = shared
    path = f"/models/{bundle.model.id}/files/{name}"
    reply = client.get(path)
    assert reply.content == bundle.files[name]
    assert reply.headers["content-type"] == kind
    entry = next(file for file in bundle.model.files if file.name == name)
    assert reply.headers["etag"] == f'"{entry.sha256}"'
    assert client.get(path, headers={"Range": "bytes=-4"}).content == bundle.files[name][-4:]
    assert client.get(path, headers={"If-None-Match": reply.headers["etag"]}).status_code == 304
    assert client.head(path).headers["content-length"] == str(entry.bytes)


@pytest.mark.parametrize("name", ["model.onx", "../../graft.db", "%2e%2e%2fgraft.db", "/etc/passwd"])
def test_a_file_that_is_not_there(shared: tuple[TestClient, Bundle], name: str) -> None:
    client, bundle = shared
    reply = client.get(f"/models/{bundle.model.id}/files/{name}")
    assert reply.status_code == 404
    if name == "model.onx":
        assert reply.json()["error"]["code"] == "file_not_found"
        assert "model.onnx" in reply.json()["error"]["hint"]


def test_a_bundle_that_two_models_share_stays_until_the_last(sqlite_client: TestClient, sqlite_store: Store) -> None:
    one = put(sqlite_store, make_bundle())
    twin = Bundle(one.model.model_copy(update={"id": new_id("mdl")}), one.zip, one.files)
    put(sqlite_store, twin)
    assert sqlite_client.delete(f"/models/{one.model.id}").status_code == 204
    assert sqlite_client.get(f"/models/{twin.model.id}").content == one.zip
    assert sqlite_client.delete(f"/models/{twin.model.id}").status_code == 204
    assert not sqlite_store.blobs.exists(one.model.sha256)


def test_a_bundle_that_was_also_uploaded_as_a_data_set_stays(
    sqlite_client: TestClient, sqlite_store: Store, bundle: Bundle
) -> None:
    upload = {"params": {"name": "bundle"}, "content": bundle.zip, "headers": {"Content-Type": "application/zip"}}
    assert sqlite_client.post("/datasets", **upload).json()["sha256"] == bundle.model.sha256  # type: ignore[arg-type]
    assert sqlite_client.delete(f"/models/{bundle.model.id}").status_code == 204
    assert sqlite_store.blobs.exists(bundle.model.sha256)


def test_a_model_that_a_job_starts_from_is_kept(sqlite_client: TestClient, sqlite_store: Store, bundle: Bundle) -> None:
    job_id = new_id("job")
    with sqlite_store.db.write() as tx:
        jobs.add(tx, "default", job_id, JobSpec(source=new_id("ds"), base_model=bundle.model.id))
    reply = sqlite_client.delete(f"/models/{bundle.model.id}")
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "model_in_use")
    assert reply.json()["error"]["details"]["jobs"] == [job_id]
    with sqlite_store.db.write() as tx:
        jobs.request(tx, "default", job_id, cancel=True)
    assert sqlite_client.delete(f"/models/{bundle.model.id}").status_code == 204


def test_missing_bytes_are_never_half_an_answer(sqlite_client: TestClient, sqlite_store: Store, bundle: Bundle) -> None:
    path = sqlite_store.blob(bundle.model.sha256)
    paths = (f"/models/{bundle.model.id}", f"/models/{bundle.model.id}/files/model.onnx")
    path.write_bytes(bundle.zip[:-1])
    for url in paths:
        reply = sqlite_client.get(url)
        assert (reply.status_code, reply.json()["error"]["code"]) == (500, "corrupt_blob")
        assert str(sqlite_store.blobs.root) not in reply.text
    path.unlink()
    for url in paths:
        assert sqlite_client.get(url).json()["error"]["code"] == "corrupt_blob"
    assert sqlite_client.get(paths[0], headers={"Accept": "application/json"}).status_code == 200
    assert sqlite_client.delete(paths[0]).status_code == 204


@pytest.mark.parametrize("owner", ["other", None])
def test_foreign_and_unknown_models_look_alike(
    sqlite_client: TestClient, sqlite_store: Store, owner: str | None
) -> None:
    strange = make_bundle()
    if owner:
        put(sqlite_store, strange, tenant=owner)
    path = f"/models/{strange.model.id}"
    image = {"content": image_bytes(1), "headers": {"Content-Type": "image/png"}}
    replies = [
        sqlite_client.get(path),
        sqlite_client.head(path),
        sqlite_client.get(f"{path}/files/model.onnx"),
        sqlite_client.delete(path),
    ]
    replies += [
        sqlite_client.get(path, headers={"Accept": "application/json"}),
        sqlite_client.post(f"{path}/predict", **image),
    ]
    assert [reply.status_code for reply in replies] == [404] * 6
    bodies = [reply.json()["error"] for reply in replies if reply.content]
    assert {body["code"] for body in bodies} == {"model_not_found"}
    assert {body["message"] for body in bodies} == {f"There is no model {strange.model.id}."}
    assert sqlite_client.get("/models").json()["data"] == []


@given(size=st.integers(0, 200), first=st.integers(0, 250), last=st.integers(0, 250))
def test_ranges_cut_as_python_does(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    cases = [(f"bytes={first}-{last}", data[first : last + 1]), (f"bytes={first}-", data[first:])]
    cases += [(f"bytes=-{last}", data[-last:] if last else b"")]
    for header, expected in cases:
        try:
            span = wanted(header, size)
        except UnsatisfiableRangeError:
            assert not expected
            continue
        if span is None:
            assert header == f"bytes={first}-{last}"
            assert last < first
        else:
            assert data[span.start : span.stop] == expected
            assert span.length == len(expected) > 0


def test_odd_headers() -> None:
    assert wanted(None, 5) is None
    assert wanted(f"bytes={'9' * 5000}-", 5) is None
    assert wanted(" bytes = 1 - 2 ", 5) == Span(1, 3)
    assert not matches(None, '"a"')
    assert preferred(None, ("a/b", "c/d")) == "a/b"
    assert preferred("c/d;q=nan, a/b;q=0.1", ("a/b", "c/d")) == "a/b"
    assert preferred("c/*", ("a/b", "c/d")) == "c/d"
    assert preferred(",;,", ("a/b", "c/d")) == "a/b"
