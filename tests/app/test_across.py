"""Jobs whose source and target are of different modalities: which methods can, and with which base model."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from core.store.store import Store
from tests.app.seed import add_dataset
from tests.app.test_targets import _post, _refused, _table

METHOD = {"name": "cross_modal"}


@pytest.fixture
def texts(client: TestClient, store: Store, tmp_path: Path) -> str:
    rows = (f"{n}.png,the animal of number {n} is a {('cat', 'dog')[n % 2]},{('cat', 'dog')[n % 2]}" for n in range(40))
    return _table(client, store, tmp_path, "\n".join(["file_name,text,label", *rows]))


@pytest.fixture
def images(store: Store) -> str:
    return add_dataset(store, per_class=6)


@pytest.mark.parametrize("name", ["cross_modal", "kernel_cca"])
def test_some_methods_go_from_texts_to_images(client: TestClient, texts: str, images: str, name: str) -> None:
    reply = _post(client, source=texts, target=images, method={"name": name}, target_base_model="resnet18")
    assert reply.status_code == 201
    assert (reply.json()["base_model"], reply.json()["target_base_model"]) == ("minilm_l6", "resnet18")
    plain = _post(client, source=texts, target=images, method={"name": name})
    assert plain.json()["target_base_model"] is None


def test_the_targets_base_model_is_of_its_modality(client: TestClient, texts: str, images: str) -> None:
    def ask(name: str, **more: object) -> object:
        return _post(client, **({"source": texts, "target": images, "method": METHOD} | more), target_base_model=name)

    own = "target_base_model"
    _refused(ask("minilm_l6"), 409, "modalities_differ", own)
    _refused(ask("hf:some/encoder"), 409, "modalities_differ", own)
    _refused(ask("mdl_" + "0" * 26), 422, "not_applicable", own)
    _refused(ask("nothing_of_that_name"), 422, "unknown_base_model", own)
    error = _refused(ask("resnet18", target=None, method={"name": "auto"}), 422, "not_applicable", own)
    assert "`cross_modal`" in error["hint"]


def test_names_of_classes_want_texts_and_are_as_many(client: TestClient, store: Store, texts: str, images: str) -> None:
    others = add_dataset(store, per_class=7)
    _refused(_post(client, source=others, target=images, method=METHOD), 409, "texts_required", "target")
    three = METHOD | {"class_names": ["a", "b", "c"]}
    error = _refused(
        _post(client, source=texts, target=images, method=three), 409, "class_names_differ", "method.class_names"
    )
    assert error["details"]["source_classes"] == ["cat", "dog"]
    two = METHOD | {"class_names": ["a small cat", "a dog"], "template": "this is {}."}
    assert _post(client, source=texts, target=images, method=two).status_code == 201
    gap = _post(client, source=texts, target=images, method=METHOD | {"template": "no gap"})
    assert gap.status_code == 422
    assert _post(client, source=images, target=texts, method=METHOD).status_code == 201
