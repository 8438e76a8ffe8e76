"""Uploads of folders, downloads that resume, predictions in batches, lists in pages."""

import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from graft import DatasetRejectedError, DownloadError, Graft, NotFoundError, WaitTimeoutError
from graft._images import Image
from graft._upload import name_of, pack
from tests.client.conftest import DATASET, MODEL, dataset, error
from tests.client.scripted import Answer, Seen, serving

Connect = Callable[..., Graft]
BUNDLE = bytes(range(256)) * 400
SHA = hashlib.sha256(BUNDLE).hexdigest()
URL = f"/models/{MODEL}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "flowers"
    for name in ("roses/1.png", "roses/2.png", "tulips/ü.png", ".git/config", "roses/.DS_Store"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "3.png").write_bytes(b"linked")
    (root / "lilies").symlink_to(outside)
    (outside / "loop").symlink_to(root)
    return root


def test_a_folder_is_packed_whole_and_always_alike(folder: Path) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    assert pack(folder, first) == pack(folder, second) == 4
    assert first.getvalue() == second.getvalue()
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == ["lilies/3.png", "roses/1.png", "roses/2.png", "tulips/ü.png"]
        assert archive.read("lilies/3.png") == b"linked"
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_a_folder_is_uploaded_under_its_name(connect: Connect, folder: Path) -> None:
    with serving({("POST", "/datasets"): [Answer(201, dataset("validating"))]}) as service:
        connect(service.url).datasets.upload(folder, seed=3)
    assert service.seen[0].query == "name=flowers&seed=3"
    assert zipfile.ZipFile(io.BytesIO(service.seen[0].body)).testzip() is None


def test_what_cannot_be_rewound_is_uploaded_too(connect: Connect) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    busy = Answer(503, error("x", "unavailable"))
    with serving({("POST", "/datasets"): [busy, Answer(201, dataset("validating"))]}) as service:
        connect(service.url).datasets.upload(Pipe(b"\x1f\x8bxyz"))
    assert [seen.body for seen in service.seen] == [b"\x1f\x8bxyz"] * 2
    assert service.seen[0].headers["content-type"] == "application/gzip"


def test_nothing_to_send_is_said_before_anything_is_sent(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    with serving({}) as service:
        with pytest.raises(ValueError, match="no files"):
            connect(service.url).datasets.upload(tmp_path)
        with pytest.raises(FileNotFoundError):
            connect(service.url).datasets.upload(tmp_path / "missing.zip")
    assert service.seen == []


@pytest.mark.parametrize(
    ("source", "name"), [("a/flowers.tar.gz", "flowers"), ("x.ZIP", "x"), (Path(), Path.cwd().name), (b"", None)]
)
def test_names_come_from_files(source: str | Path | bytes, name: str | None) -> None:
    assert name_of(source) == name


def test_waiting_for_a_data_set(connect: Connect) -> None:
    states = [Answer(200, dataset("validating")), Answer(200, dataset("validating")), Answer(200, dataset())]
    with serving({("GET", f"/datasets/{DATASET}"): states}) as service:
        client = connect(service.url)
        with pytest.raises(WaitTimeoutError):
            client.datasets.wait(DATASET, timeout=0)
        assert client.datasets.wait(DATASET).state == "ready"


def test_a_rejected_data_set_says_what_to_do(connect: Connect) -> None:
    fault = {"code": "no_images", "severity": "error", "count": 1, "message": "No images.", "remedy": "Add some."}
    report = {"faults": [fault], "files": 1, "items": 0, "labelled": False, "split_source": "made", "seed": 0}
    script = {
        ("GET", f"/datasets/{DATASET}"): [Answer(200, dataset("rejected", error=error("bad", "job_failed")["error"]))],
        ("GET", f"/datasets/{DATASET}/report"): [Answer(200, report | {"seconds": 0.1})],
    }
    with serving(script) as service, pytest.raises(DatasetRejectedError, match=r"No images\. Add some\.") as caught:
        connect(service.url).datasets.wait(DATASET)
    assert [found.code for found in caught.value.faults] == ["no_images"]


def test_a_rejected_data_set_without_a_report(connect: Connect) -> None:
    failed = error("bad_archive", "job_failed", hint="Pack it again.")["error"]
    script = {
        ("GET", f"/datasets/{DATASET}"): [Answer(200, dataset("rejected", error=failed))],
        ("GET", f"/datasets/{DATASET}/report"): [Answer(409, error("report_not_ready", "conflict"))],
    }
    with serving(script) as service, pytest.raises(DatasetRejectedError, match="Pack it again"):
        connect(service.url).datasets.wait(DATASET)


def ranged(data: bytes = BUNDLE, sha256: str = SHA, cut: int | None = None) -> Callable[[Seen], Answer]:
    """A server of ranges that cuts the connection after `cut` bytes."""

    def answer(seen: Seen) -> Answer:
        headers = {"ETag": f'"{sha256}"', "Content-Type": "application/zip"}
        match = re.fullmatch(r"bytes=(\d+)-", seen.headers.get("range", ""))
        if match is None or seen.headers.get("if-range") != f'"{sha256}"':
            return Answer(200, data, headers, cut_after=cut)
        start = int(match[1])
        if start >= len(data):
            return Answer(416, error("range_not_satisfiable"))
        headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return Answer(206, data[start:], headers, cut_after=cut)

    return answer


def test_a_cut_download_goes_on_where_it_broke(connect: Connect, tmp_path: Path) -> None:
    counted: list[tuple[int, int | None]] = []
    with serving({("GET", URL): [ranged(cut=30_000)] * 3 + [ranged()]}) as service:
        path = connect(service.url, max_retries=1).models.download(
            MODEL, tmp_path / "new" / "m.zip", on_progress=lambda *n: counted.append(n)
        )
    assert path.read_bytes() == BUNDLE
    assert "range" not in service.seen[0].headers
    assert len(service.seen) == 4
    assert all(seen.headers["range"] != "bytes=0-" for seen in service.seen[1:])
    assert counted[-1] == (len(BUNDLE), len(BUNDLE))
    assert [entry.name for entry in path.parent.iterdir()] == ["m.zip"]


def test_a_later_call_goes_on_too(connect: Connect, tmp_path: Path) -> None:
    with serving({("GET", URL): [ranged(cut=30_000), Answer(503, b""), ranged()]}) as service:
        with pytest.raises(ConnectionError):
            connect(service.url, max_retries=0).models.download(MODEL, tmp_path)
        assert not (tmp_path / f"{MODEL}.zip").exists()
        path = connect(service.url).models.download(MODEL, tmp_path)
    assert path == tmp_path / f"{MODEL}.zip"
    assert path.read_bytes() == BUNDLE
    assert service.seen[-1].headers["range"].startswith("bytes=")


def test_a_part_of_something_else_is_thrown_away(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / f".m.zip.{'0' * 64}.part").write_bytes(b"old")
    with serving({("GET", URL): [ranged()]}) as service:
        path = connect(service.url).models.download(MODEL, tmp_path / "m.zip")
    assert path.read_bytes() == BUNDLE
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.zip"]


@pytest.mark.parametrize("content", [BUNDLE, b"x" * len(BUNDLE)])
def test_a_part_that_is_whole_is_checked_and_used(connect: Connect, tmp_path: Path, content: bytes) -> None:
    (tmp_path / f".m.zip.{SHA}.part").write_bytes(content)
    with serving({("GET", URL): [ranged()]}) as service:
        path = connect(service.url).models.download(MODEL, tmp_path / "m.zip")
    assert path.read_bytes() == BUNDLE


def test_wrong_bytes_never_get_the_name(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "m.zip").write_bytes(b"the older model")
    with serving({("GET", URL): [ranged(data=b"wrong")]}) as service, pytest.raises(DownloadError, match="SHA-256"):
        connect(service.url).models.download(MODEL, tmp_path / "m.zip")
    assert (tmp_path / "m.zip").read_bytes() == b"the older model"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_model_leaves_nothing_behind(connect: Connect, tmp_path: Path) -> None:
    with (
        serving({("GET", URL): [Answer(404, error("model_not_found", "not_found"))]}) as service,
        pytest.raises(NotFoundError),
    ):
        connect(service.url).models.download(MODEL, tmp_path / "m.zip")
    assert list(tmp_path.iterdir()) == []


def test_one_file_of_the_bundle(connect: Connect, tmp_path: Path) -> None:
    with serving({("GET", f"{URL}/files/model.onnx"): [ranged()]}) as service:
        assert connect(service.url).models.file(MODEL, "model.onnx", f"{tmp_path}/new/").read_bytes() == BUNDLE
    assert (tmp_path / "new" / "model.onnx").is_file()


def test_many_images_are_sent_in_batches_and_keep_their_order(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"path")

    def answer(seen: Seen) -> Answer:
        count = seen.body.count(b'name="files"')
        return Answer(200, {"model": MODEL, "predictions": [{"index": i, "label": str(count)} for i in range(count)]})

    with serving({("POST", f"{URL}/predict"): [Answer(503, b""), answer]}) as service:
        images: list[Image] = [tmp_path / "a.png", io.BytesIO(b"open"), *[b"%d" % n for n in range(148)]]
        found = connect(service.url).models.predict(MODEL, images, top_k=2)
    assert [item.index for item in found.predictions] == list(range(150))
    assert [found[i].label for i in (0, 63, 64, 149)] == ["64", "64", "64", "22"]
    assert service.seen[0].query == "top_k=2"
    assert b'filename="a.png"' in service.seen[0].body
    assert b"Content-Type: image/png" in service.seen[0].body


def test_lists_fetch_the_next_page_when_it_is_needed(connect: Connect) -> None:
    def page(seen: Seen) -> Answer:
        last = "cursor=next" in seen.query
        data = [dataset(id=f"ds_{n}") for n in ((3,) if last else (1, 2))]
        return Answer(200, {"data": data, "has_more": not last, "next_cursor": None if last else "next"})

    with serving({("GET", "/datasets"): [page]}) as service:
        client = connect(service.url)
        assert [d.id for d in client.datasets.list(limit=2)] == ["ds_1", "ds_2"]
        assert len(service.seen) == 1
        assert [d.id for d in client.datasets.list(state="ready")] == ["ds_1", "ds_2", "ds_3"]
    assert service.seen[0].query == "limit=2"
    assert service.seen[1].query == "state=ready&limit=100"
