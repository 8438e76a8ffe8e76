"""The menus over HTTP."""

import pytest
from fastapi.testclient import TestClient

from core.catalogue import cards
from core.contract.jobs import DEFAULT_BASE_MODELS, JobSpec
from core.contract.methods import METHODS


def test_methods_are_listed_with_their_options(sqlite_client: TestClient) -> None:
    reply = sqlite_client.get("/methods").json()
    assert [card["name"] for card in reply["data"]] == list(METHODS)
    assert (reply["has_more"], reply["next_cursor"]) == (False, None)
    for card in reply["data"]:
        assert sqlite_client.get(f"/methods/{card['name']}").json() == card
        assert card["options"]["properties"]["name"]["const"] == card["name"]
        JobSpec.model_validate({"method": {"name": card["name"]}, "source": "ds_" + "0" * 26})


def test_base_models_are_listed_smallest_first(sqlite_client: TestClient) -> None:
    found = sqlite_client.get("/base-models").json()["data"]
    assert [card["id"] for card in found] == [card.id for card in cards()]
    assert [card["parameters"] for card in found] == sorted(card["parameters"] for card in found)
    assert DEFAULT_BASE_MODELS["image"] in {card["id"] for card in found}
    for card in found:
        assert sqlite_client.get(f"/base-models/{card['id']}").json() == card


@pytest.mark.parametrize(
    ("path", "code", "nearest"),
    [
        ("/methods/fine-tune", "method_not_found", "fine_tune"),
        ("/methods/linearprobe", "method_not_found", "linear_probe"),
        ("/base-models/efficientnet-lite0", "base_model_not_found", "efficientnet_lite0"),
        ("/base-models/resnet_18", "base_model_not_found", "resnet18"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(sqlite_client: TestClient, path: str, code: str, nearest: str) -> None:
    reply = sqlite_client.get(path)
    body = reply.json()["error"]
    assert (reply.status_code, body["code"]) == (404, code)
    assert f"Did you mean `{nearest}`?" in body["hint"]
    wild = sqlite_client.get(path.rsplit("/", 1)[0] + "/zzzzzzzz").json()["error"]
    assert "Did you mean" not in wild["hint"]
