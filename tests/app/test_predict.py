"""Predictions over HTTP: three forms of body, errors per item, limits, sessions."""

import base64
import hashlib
import json
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import numpy as np
import onnxruntime as ort
import pytest
from fastapi.testclient import TestClient

from app.predictions.json_body import read
from app.predictions.predictor import Predictor
from app.predictions.sessions import Parts, Sessions, UnusableGraphError
from core.contract.datasets import Modality
from core.contract.errors import UnavailableError
from core.contract.models import ModelFile
from core.contract.prepare import ImagePrepare
from core.modality import image
from core.settings import Settings
from core.store.store import Store
from tests.app.bundles import COLOURS, Bundle, graph, make_bundle, one_model, put
from tests.app.conftest import neighbour
from tests.builders import encode, image_bytes

PREPARE = ImagePrepare(size=32)
PNG = {"Content-Type": "image/png"}


def colour(channel: int, level: int = 230, side: int = 40) -> bytes:
    """An image in one of red, green, blue."""
    pixels = np.full((side, side + 8, 3), 20, np.uint8)
    pixels[..., channel] = level
    return encode(pixels)


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Bundle]]:
    with one_model(tmp_path_factory.mktemp("shared")) as served:
        yield served


@pytest.fixture
def bundle(sqlite_store: Store) -> Bundle:
    return put(sqlite_store, make_bundle())


@pytest.fixture
def url(bundle: Bundle) -> str:
    return predict_url(bundle)


def predict_url(bundle: Bundle) -> str:
    return f"/models/{bundle.model.id}/predict"


@pytest.fixture
def tight_client(settings: Settings, sqlite_store: Store) -> Iterator[TestClient]:
    """A service with small limits."""
    limits = {"max_predict_items": 3, "max_predict_bytes": 20_000, "sessions": 2, "max_pixels": 50_000}
    with neighbour(settings.model_copy(update=limits)) as client:
        yield client


def error(reply: Any, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    body: dict[str, Any] = reply.json()["error"]
    return body


def test_three_forms_one_answer(shared: tuple[TestClient, Bundle]) -> None:
    client, bundle = shared
    url = predict_url(bundle)
    data = image_bytes(3, (50, 40), 1)
    replies = [
        client.post(url, files={"files": ("a.png", data, "image/png")}),
        client.post(url, content=data, headers=PNG),
        client.post(url, json={"items": [{"image": coded(data), "name": "a.png"}]}),
        client.post(url, json={"items": [{"image": f"data:image/png;base64,{coded(data)}"}]}),
        client.post(url, json={"items": [{"image": base64.urlsafe_b64encode(data).decode().rstrip("=")}]}),
    ]
    answers = [reply.json()["predictions"][0] for reply in replies]
    assert [answer["name"] for answer in answers] == ["a.png", None, "a.png", None, None]
    assert len({str(answer["top"]) for answer in answers}) == 1
    assert {reply.json()["model"] for reply in replies} == {bundle.model.id}
    # The very same preparation and graph, run by hand.
    config = bundle.model.manifest.prepare
    assert isinstance(config, ImagePrepare)
    batch = image.prepare_bytes(data, config, max_pixels=10**6)[None]
    expected = ort.InferenceSession(bundle.files["model.onnx"]).run(["probabilities"], {"image": batch})[0][0]
    shown = {score["label"]: score["probability"] for score in answers[0]["top"]}
    assert shown == pytest.approx(dict(zip(COLOURS, expected.tolist(), strict=True)), abs=1e-6)
    assert sum(shown.values()) == pytest.approx(1)
    assert answers[0]["error"] is None


def test_labels_follow_the_image_across_batches(shared: tuple[TestClient, Bundle]) -> None:
    client, bundle = shared
    url = predict_url(bundle)
    order = np.random.default_rng(0).integers(0, 3, 70).tolist()
    files = [("files", (f"{i}.png", colour(c, 150 + i), "image/png")) for i, c in enumerate(order)]
    predictions = client.post(url, files=files).json()["predictions"]
    assert [p["label"] for p in predictions] == [COLOURS[c] for c in order]
    assert [p["index"] for p in predictions] == list(range(70))
    assert [p["name"] for p in predictions] == [f"{i}.png" for i in range(70)]
    assert all(p["probability"] == p["top"][0]["probability"] for p in predictions)


def test_one_bad_image_fails_alone(shared: tuple[TestClient, Bundle]) -> None:
    client, bundle = shared
    url = predict_url(bundle)
    good, cut = colour(0), colour(1)[:60]
    items = [{"image": coded(good)}, {"image": coded(b"no image"), "name": "n"}, {"image": "§§§"}, {"image": ""}]
    items += [{"image": coded(cut)}, {"image": coded(colour(2))}]
    reply = client.post(url, json={"items": items})
    assert reply.status_code == 200
    predictions = reply.json()["predictions"]
    assert [p["label"] for p in predictions] == ["red", None, None, None, None, "blue"]
    codes = [p["error"] and p["error"]["code"] for p in predictions]
    assert codes == [None, "unsupported_format", "invalid_base64", "empty_file", "unreadable_image", None]
    assert all(p["error"]["hint"] and p["error"]["message"] for p in predictions[1:5])
    assert (predictions[1]["name"], predictions[1]["top"]) == ("n", [])


def test_nothing_but_bad_images_is_still_an_answer(shared: tuple[TestClient, Bundle]) -> None:
    client, bundle = shared
    url = predict_url(bundle)
    reply = client.post(url, content=b"no image", headers={"Content-Type": "image/jpeg"})
    assert reply.status_code == 200
    assert reply.json()["predictions"][0]["error"]["code"] == "unsupported_format"


def test_top_k(sqlite_client: TestClient, sqlite_store: Store) -> None:
    model = put(sqlite_store, make_bundle(classes=[f"c{i}" for i in range(8)])).model
    url, data = f"/models/{model.id}/predict", colour(1)
    named = [
        sqlite_client.post(url, content=data, headers=PNG),
        sqlite_client.post(url, params={"top_k": 1}, content=data, headers=PNG),
        sqlite_client.post(url, params={"top_k": 1000}, content=data, headers=PNG),
        sqlite_client.post(url, params={"top_k": 1}, json={"items": [{"image": coded(data)}], "top_k": 3}),
        sqlite_client.post(url, files={"files": ("a", data)}, data={"top_k": "2"}),
    ]
    tops = [reply.json()["predictions"][0]["top"] for reply in named]
    assert [len(top) for top in tops] == [5, 1, 8, 3, 2]
    for top in tops:
        probabilities = [score["probability"] for score in top]
        assert probabilities == sorted(probabilities, reverse=True)
        assert top[0]["label"] == "c1"
    assert error(sqlite_client.post(url, params={"top_k": 0}, content=data, headers=PNG), 422)["param"] == "top_k"
    zero = sqlite_client.post(url, json={"items": [{"image": coded(data)}], "top_k": 0})
    assert error(zero, 422)["param"] == "top_k"
    assert error(sqlite_client.post(url, files={"files": ("a", data)}, data={"top_k": "x"}), 422)["param"] == "top_k"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_another_content_type_is_told_the_three_forms(shared: tuple[TestClient, Bundle], kind: str | None) -> None:
    client, bundle = shared
    url = predict_url(bundle)
    reply = client.post(url, content=colour(0), headers={"Content-Type": kind} if kind else {})
    hint = error(reply, 415)["hint"]
    assert all(form in hint for form in ("multipart/form-data", "image/", "application/json"))


@pytest.mark.parametrize(
    ("call", "status", "code", "param"),
    [
        ({"content": b"", "headers": PNG}, 422, "empty_body", None),
        ({"content": b"", "headers": {"Content-Type": "application/json"}}, 422, "empty_body", None),
        ({"json": {"items": []}}, 422, "invalid_value", "items"),
        ({"json": {}}, 422, "missing_field", "items"),
        ({"json": {"items": [{}]}}, 422, "missing_field", "items.0.image"),
        ({"json": {"items": [{"image": 3}]}}, 422, "invalid_value", "items.0.image"),
        ({"json": {"item": [{"image": ""}], "items": [{"image": ""}]}}, 422, "unknown_field", "item"),
        ({"json": {"items": [{"imag": "", "image": ""}]}}, 422, "unknown_field", "items.0.imag"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "invalid_json", None),
        ({"content": b'"\xff"', "headers": {"Content-Type": "application/json"}}, 400, "invalid_json", None),
        ({"files": {"file": ("a.png", b"x")}}, 422, "unknown_field", "file"),
        ({"files": {"files": (None, "a.png")}}, 422, "wrong_type", "files"),
        ({"data": {"top_k": "1"}, "files": {"top_k": (None, "1")}}, 422, "missing_field", "files"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "invalid_multipart", None),
        (
            {"content": b"--b\r\nrubbish", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
            400,
            "invalid_multipart",
            None,
        ),
    ],
)
def test_a_wrong_request_is_told_what_to_send(
    shared: tuple[TestClient, Bundle], call: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    client, bundle = shared
    url = predict_url(bundle)
    body = error(client.post(url, **call), status)
    assert (body["code"], body["param"]) == (code, param)
    assert body["hint"]


def test_an_unknown_field_is_told_the_nearest(shared: tuple[TestClient, Bundle]) -> None:
    client, bundle = shared
    url = predict_url(bundle)
    body = error(client.post(url, json={"items": [{"imag": "", "image": ""}]}), 422)
    assert "`image`" in body["hint"]
    assert "`files`" in error(client.post(url, files={"file": ("a.png", b"x")}), 422)["hint"]


def test_a_body_that_is_cut_off_loses_no_item_in_silence(shared: tuple[TestClient, Bundle]) -> None:
    client, bundle = shared
    url = predict_url(bundle)
    request = client.build_request("POST", url, files=[("files", (f"{i}", colour(i))) for i in range(2)])
    whole, kind = request.read(), {"Content-Type": request.headers["content-type"]}
    assert len(client.post(url, content=whole, headers=kind).json()["predictions"]) == 2
    for cut in (whole[:-60], whole[: len(whole) // 2], whole[:30]):
        assert error(client.post(url, content=cut, headers=kind), 400)["code"] == "invalid_multipart"


def test_too_many_items(tight_client: TestClient, url: str) -> None:
    tiny = colour(0, side=8)
    four = [
        tight_client.post(url, files=[("files", (f"{i}", tiny)) for i in range(4)]),
        tight_client.post(url, files=[("files", (f"{i}", tiny)) for i in range(40)]),
        tight_client.post(url, json={"items": [{"image": coded(tiny)}] * 4}),
    ]
    for reply in four:
        body = error(reply, 422)
        assert (body["code"], body["details"]["limit_items"]) == ("too_many_items", 3)
        assert "3" in body["hint"]
    assert tight_client.post(url, json={"items": [{"image": coded(tiny)}] * 3}).status_code == 200


def test_too_large_a_body(tight_client: TestClient, url: str) -> None:
    def chunks() -> Iterator[bytes]:
        yield from [b"x" * 1000] * 30

    declared = tight_client.post(url, content=b"x" * 30_000, headers=PNG)
    streamed = tight_client.post(url, content=chunks(), headers=PNG)
    multipart = tight_client.post(url, files={"files": ("a", b"x" * 30_000)})
    for reply in (declared, streamed, multipart):
        assert error(reply, 413)["details"]["limit_bytes"] == 20_000
    assert "fewer" in error(streamed, 413)["hint"]


def test_a_huge_image_is_refused_by_its_header(tight_client: TestClient, url: str) -> None:
    wide = encode(np.zeros((300, 300, 3), np.uint8))
    predictions = tight_client.post(url, json={"items": [{"image": coded(wide)}, {"image": coded(colour(2))}]}).json()
    assert [p["error"] and p["error"]["code"] for p in predictions["predictions"]] == ["image_too_large", None]


def test_what_requests_hold_together_is_bounded(settings: Settings) -> None:
    predictor = Predictor(settings.model_copy(update={"max_predict_bytes": 1000}))

    async def body(chunks: int) -> AsyncGenerator[bytes, None]:
        for _ in range(chunks):
            yield b"x" * 500

    async def go() -> None:
        with predictor.admission() as first, predictor.admission() as second:
            assert len([chunk async for chunk in predictor.counted(body(7), first)]) == 7
            with pytest.raises(UnavailableError, match="Too many") as caught:
                [chunk async for chunk in predictor.counted(body(2), second)]
            assert caught.value.code == "predict_busy"
        with predictor.admission() as third:
            assert len([chunk async for chunk in predictor.counted(body(8), third)]) == 8

    anyio.run(go)
    predictor.close()


def test_the_least_recently_used_session_is_closed(tight_client: TestClient, sqlite_store: Store) -> None:
    made = [put(sqlite_store, make_bundle()).model for _ in range(3)]
    open_keys = tight_client.app.state.predictor.sessions.keys  # type: ignore[attr-defined]

    def call(model: Any) -> None:
        assert tight_client.post(f"/models/{model.id}/predict", content=colour(0), headers=PNG).status_code == 200

    for model in (made[0], made[1], made[0], made[2]):
        call(model)
    assert open_keys() == [made[0].sha256, made[2].sha256]
    call(made[1])
    assert open_keys() == [made[2].sha256, made[1].sha256]
    assert tight_client.delete(f"/models/{made[1].id}").status_code == 204
    assert open_keys() == [made[2].sha256]
    assert tight_client.post(f"/models/{made[1].id}/predict", content=colour(0), headers=PNG).status_code == 404


def test_a_session_is_opened_once_for_all_who_wait() -> None:
    sessions, parts = Sessions(4, threads=1), Parts(graph(), PREPARE)
    calls, gate = [], threading.Event()

    def load() -> Parts:
        calls.append(1)
        gate.wait(60)
        return parts

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(sessions.get, "key", load) for _ in range(8)]
        gate.set()
        found = {id(future.result()) for future in waiting}
    assert (len(calls), len(found)) == (1, 1)


def test_sessions_are_bounded_by_size_and_failures_are_forgotten() -> None:
    content = graph()
    sessions = Sessions(10, threads=1, max_bytes=2 * len(content))
    for key in "abc":
        sessions.get(key, lambda: Parts(content, PREPARE))
    assert sessions.keys() == ["b", "c"]
    with pytest.raises(UnusableGraphError):
        sessions.get("d", lambda: Parts(b"no graph", PREPARE))
    assert sessions.keys() == ["b", "c"]
    assert sessions.get("d", lambda: Parts(content, PREPARE)).bytes == len(content)


def test_many_clients_at_once_get_their_own_answers(shared: tuple[TestClient, Bundle]) -> None:
    client, bundle = shared
    url = predict_url(bundle)

    def ask(i: int) -> bool:
        reply = client.post(url, content=colour(i % 3, 160 + i), headers=PNG)
        return bool(reply.json()["predictions"][0]["label"] == COLOURS[i % 3])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(48)))


def test_damaged_models_say_so(sqlite_client: TestClient, sqlite_store: Store) -> None:
    changed, missing = put(sqlite_store, make_bundle()), put(sqlite_store, make_bundle())
    path = sqlite_store.blob(changed.model.sha256)
    offset = changed.model.files[0].offset + 20
    path.write_bytes(changed.zip[:offset] + bytes([changed.zip[offset] ^ 1]) + changed.zip[offset + 1 :])
    sqlite_store.blob(missing.model.sha256).unlink()
    unusable = put(sqlite_store, make_bundle(onnx_bytes=b"this is no graph"))
    shrunk = put(sqlite_store, make_bundle(classes=["a", "b"], onnx_bytes=graph(3)))
    for broken in (changed, missing, unusable, shrunk):
        reply = sqlite_client.post(f"/models/{broken.model.id}/predict", content=colour(0), headers=PNG)
        body = error(reply, 500)
        assert (body["code"], str(sqlite_store.blobs.root) in reply.text) == ("corrupt_blob", False)
    path.write_bytes(changed.zip)
    assert sqlite_client.post(f"/models/{changed.model.id}/predict", content=colour(0), headers=PNG).status_code == 200


def test_an_answer_that_is_no_number_is_an_error_of_the_item(sqlite_client: TestClient, sqlite_store: Store) -> None:
    broken = put(sqlite_store, make_bundle(onnx_bytes=graph(3, temperature=0.0)))
    reply = sqlite_client.post(f"/models/{broken.model.id}/predict", content=colour(0), headers=PNG)
    prediction = reply.json()["predictions"][0]
    assert (prediction["label"], prediction["error"]["code"]) == (None, "not_finite")


def test_a_bundle_without_a_graph(sqlite_client: TestClient, sqlite_store: Store) -> None:
    bundle = make_bundle()
    files = [ModelFile(name="notes.txt", bytes=1, sha256=hashlib.sha256(b"x").hexdigest())]
    bundle = Bundle(bundle.model.model_copy(update={"files": files}), bundle.zip, bundle.files)
    put(sqlite_store, bundle)
    reply = sqlite_client.post(f"/models/{bundle.model.id}/predict", content=colour(0), headers=PNG)
    assert error(reply, 500)["code"] == "corrupt_blob"


def test_predictions_are_measured(sqlite_client: TestClient, url: str) -> None:
    for _ in range(3):
        sqlite_client.post(url, content=colour(0), headers=PNG)
    page = sqlite_client.get("/metrics").text
    for phase in ("decode", "infer", "total"):
        assert f'graft_predict_seconds_count{{phase="{phase}"}} 3.0' in page
    assert 'graft_predict_items_total{outcome="answered"} 3.0' in page
    assert "graft_predict_sessions 1.0" in page


def test_all_forms_stand_in_the_description_with_examples_that_fit(sqlite_client: TestClient) -> None:
    operation = sqlite_client.get("/openapi.json").json()["paths"]["/models/{model_id}/predict"]["post"]
    content = operation["requestBody"]["content"]
    tables = {"text/csv", "application/x-ndjson"}
    assert set(content) == {"multipart/form-data", "image/*", "application/json", "text/plain", *tables}
    described = content["application/json"]
    assert len(described["schema"]["anyOf"]) == 3
    fitting: dict[str, Modality] = {"images": "image", "texts": "text", "plain texts": "text", "rows": "tabular"}
    for name, modality in fitting.items():
        shown = json.dumps(described["examples"].pop(name)["value"]).encode()
        assert read(shown, modality, 3).items[0].error is None
    assert described["examples"] == {}
