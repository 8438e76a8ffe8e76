"""Classes of few-shot models through the SDK and the command line, on the real API."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from core.settings import Settings
from core.store.store import Store
from graft import ConflictError, Graft, InvalidRequestError, NotFoundError
from graft.cli import main
from graft.cli import show_episodes as shown
from graft.types import EpisodeReport
from tests.app.bundles import COLOURS, put
from tests.app.conftest import serving
from tests.app.few_shot_bundles import few_shot_bundle
from tests.app.few_shot_doors import YELLOW, plain
from tests.client.conftest import MODEL, error
from tests.client.scripted import Answer
from tests.client.scripted import serving as scripted

NAMES = ["Greek/alpha", "a%2Fb?c#d", "猫 & co", "..."]


@pytest.fixture
def url(settings: Settings, sqlite_store: Store) -> Iterator[str]:
    """Address of the API over SQLite."""
    with capture_logs(), serving(settings) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Graft]:
    """The SDK on it."""
    with Graft(url) as value:
        yield value


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Photos of something yellow, in a folder of their own."""
    folder = tmp_path / "yellow"
    folder.mkdir()
    for at in range(3):
        (folder / f"{at}.png").write_bytes(plain((230 - at, 230, 20)))
    return sorted(folder.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_a_class_comes_and_goes(client: Graft, sqlite_store: Store, files: list[Path], name: str) -> None:
    old = client.models.get(put(sqlite_store, few_shot_bundle(least_logit=-1.0)).model.id)
    assert client.models.predict(old, [plain(YELLOW)])[0].none_of_these is True
    new = client.models.add_class(old, name, files)
    assert (new.classes, old.few_shot is not None) == ([*COLOURS, name], True)
    assert new.few_shot is not None
    assert new.few_shot["revision_of"] == old.id
    answers = client.models.predict(new, [plain(YELLOW), plain((230, 20, 20))])
    assert [(one.label, one.none_of_these) for one in answers.items()] == [(name, False), ("red", False)]
    back = client.models.remove_class(new, name)
    assert back.classes == COLOURS
    assert [found.id for found in client.models.list()] == [back.id, new.id, old.id]


def test_texts_and_rows(client: Graft, sqlite_store: Store) -> None:
    texts = put(sqlite_store, few_shot_bundle(modality="text")).model.id
    assert client.models.add_class(texts, "neither", items=["long", "long long"]).classes[-1] == "neither"
    rows = put(sqlite_store, few_shot_bundle(modality="tabular")).model.id
    made = client.models.add_class(rows, "large", items=[{"size": 250, "city": "Paris", "lift": True}])
    assert made.few_shot is not None
    assert made.few_shot["counts"] == [2, 2, 2, 1]


def test_what_is_refused_says_why(client: Graft, sqlite_store: Store, files: list[Path]) -> None:
    model = put(sqlite_store, few_shot_bundle()).model.id
    with pytest.raises(ConflictError) as conflict:
        client.models.add_class(model, "red", files)
    assert conflict.value.code == "class_exists"
    with pytest.raises(InvalidRequestError) as invalid:
        client.models.add_class(model, "x", [files[0], b"no image"])
    assert (invalid.value.code, invalid.value.param) == ("unusable_item", "items.1")
    with pytest.raises(NotFoundError) as missing:
        client.models.remove_class(model, "rad")
    assert "`red`" in str(missing.value.hint)
    for given in ({}, {"files": files, "items": ["x"]}):
        with pytest.raises(ValueError, match="either files"):
            client.models.add_class(model, "x", **given)  # type: ignore[arg-type]


def test_the_command_line(url: str, sqlite_store: Store, files: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    model = put(sqlite_store, few_shot_bundle(least_logit=-1.0)).model.id

    def run(*arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["--url", url, *arguments])
        out, err = capsys.readouterr()
        assert int(ended.value.code or 0) == code, err
        return out or err

    photo = str(files[0])
    assert "classes can be added" in run("models", "get", model)
    assert "none of these" in run("predict", model, photo)
    new = json.loads(run("models", "add-class", model, "Greek/alpha", str(files[0].parent), "--json"))
    assert new["classes"][-1] == "Greek/alpha"
    assert "Greek/alpha" in run("predict", new["id"], photo)
    said = run("models", "remove-class", new["id"], "Greek/alpha")
    assert "removed Greek/alpha" in said
    assert f"revision 2 of {new['id']}" in said
    assert "class_exists" in run("models", "add-class", model, "red", photo, code=1)
    assert "either files" in run("models", "add-class", model, "more", code=2)
    texts = put(sqlite_store, few_shot_bundle(modality="text")).model.id
    assert "neither" in run("models", "add-class", texts, "neither", "--text", "long", "--text", "long long")


def test_a_lost_reply_makes_no_second_model(connect: Callable[..., Graft]) -> None:
    """Taking a class away makes a model: it is sent again under the same key, and a 404 is no success."""
    lost, gone = Answer(503, error("database_unavailable", "unavailable")), Answer(404, error("class_not_found"))
    with scripted({("DELETE", f"/models/{MODEL}/classes/a%2Fb"): [lost, gone]}) as play:
        with pytest.raises(NotFoundError):
            connect(play.url).models.remove_class(MODEL, "a/b")
        keys = [one.headers["idempotency-key"] for one in play.seen]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_episodes_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    figure = {"arm": "simple_shot", "ways": 5, "shots": 1, "queries": 15, "episodes": 600, "accuracy": 0.8123}
    found = EpisodeReport.model_validate(
        {
            "figures": [figure, figure | {"arm": "maml", "low": 0.79, "high": 0.83}],
            "train_classes": 20,
            "validation_classes": 5,
            "test_classes": 8,
            "outliers": 0.9,
            "sentence": "It helps.",
        }
    )
    shown.episodes(found)
    out = capsys.readouterr().out
    for words in ("It helps.", "simple_shot", "81.2%", "79.0% to 83.0%", "90.0%"):
        assert words in out
