"""Publishing models: what a harmful one needs, what a published one keeps, whose it is."""

import pytest
from fastapi.testclient import TestClient

from core.contract.base import new_id
from core.contract.verdicts import Difference, Judgement, Verdict
from core.store import audit
from core.store.store import Store
from tests.app.bundles import Bundle, make_bundle, put

WHY = "It answers ten times faster, and that is what we need."


def judged(store: Store, verdict: Verdict, *, overridden: bool = False, tenant: str = "default") -> Bundle:
    """A model with that verdict."""
    bundle = make_bundle()
    judgement = Judgement(
        verdict=verdict,
        sentence="Fine-tuning did harm.",
        metric="accuracy",
        baseline="linear_probe",
        difference=Difference(effect=-0.1, low=-0.15, high=-0.05, p_value=0.001, test="mcnemar"),
        items=200,
        margin=0.01,
        served="fine_tune" if overridden else "linear_probe",
        overridden=overridden,
    )
    manifest = bundle.model.manifest.model_copy(update={"judgement": judgement})
    model = bundle.model.model_copy(update={"manifest": manifest, "verdict": verdict})
    return put(store, Bundle(model, bundle.zip, bundle.files), tenant)


def known(client: TestClient, model_id: str) -> dict[str, object]:
    """What the service says of the model."""
    found: dict[str, object] = client.get(f"/models/{model_id}", headers={"Accept": "application/json"}).json()
    return found


def test_a_model_is_published_listed_kept_and_withdrawn(store: Store, client: TestClient) -> None:
    ours, other = (put(store, make_bundle()).model.id for _ in range(2))
    reply = client.post(f"/models/{ours}/publish")
    assert reply.status_code == 200, reply.text
    publication = reply.json()["publication"]
    assert publication["override"] is None
    assert known(client, ours)["publication"] == publication
    for published, expected in ((True, [ours]), (False, [other])):
        assert [m["id"] for m in client.get("/models", params={"published": published}).json()["data"]] == expected
    refused = client.delete(f"/models/{ours}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model_published")
    assert "publish" in refused.json()["error"]["hint"]
    assert client.delete(f"/models/{ours}/publish").status_code == 204
    assert known(client, ours)["publication"] is None
    assert client.delete(f"/models/{ours}/publish").status_code == 204
    assert client.delete(f"/models/{ours}").status_code == 204


def test_a_harmful_model_needs_a_reason_which_stays(store: Store, client: TestClient) -> None:
    model = judged(store, "harmful", overridden=True).model.id
    for body in (None, {}, {"override": None}):
        refused = client.post(f"/models/{model}/publish", json=body)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["param"]) == (409, "model_harmful", "override")
        assert "Fine-tuning did harm." in error["message"]
    assert known(client, model)["publication"] is None
    assert client.post(f"/models/{model}/publish", json={"override": f"  {WHY} "}).status_code == 200
    assert known(client, model)["publication"]["override"] == WHY  # type: ignore[index]
    assert known(client, model)["verdict"] == "harmful"


@pytest.mark.parametrize("verdict", ["improved", "not_improved", "undetermined", "harmful"])
def test_the_baseline_that_is_served_in_the_place_of_harm_needs_none(
    store: Store, client: TestClient, verdict: Verdict
) -> None:
    model = judged(store, verdict).model.id
    assert client.post(f"/models/{model}/publish").status_code == 200


def test_publishing_again_changes_nothing(store: Store, client: TestClient) -> None:
    model = judged(store, "harmful", overridden=True).model.id
    first = client.post(f"/models/{model}/publish", json={"override": WHY}).json()
    again = client.post(f"/models/{model}/publish", json={"override": "Something else."})
    assert again.json() == first


@pytest.mark.parametrize("body", [{"override": ""}, {"override": " "}, {"overide": WHY}, {"override": 3}, [], "x"])
def test_a_wrong_body_is_refused_by_name(store: Store, client: TestClient, body: object) -> None:
    model = judged(store, "harmful", overridden=True).model.id
    reply = client.post(f"/models/{model}/publish", json=body)
    assert reply.status_code == 422
    assert known(client, model)["publication"] is None


def test_the_same_key_gives_the_first_reply_again(store: Store, client: TestClient) -> None:
    model = judged(store, "harmful", overridden=True).model.id
    key = {"Idempotency-Key": "once"}
    first = client.post(f"/models/{model}/publish", json={"override": WHY}, headers=key)
    client.delete(f"/models/{model}/publish")
    again = client.post(f"/models/{model}/publish", json={"override": WHY}, headers=key)
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (first.json(), "true")
    assert known(client, model)["publication"] is None
    other = client.post(f"/models/{model}/publish", json={"override": "Another reason."}, headers=key)
    assert other.status_code == 422


def test_who_published_stands_in_the_audit_log(store: Store, client: TestClient) -> None:
    model = put(store, make_bundle()).model.id
    client.post(f"/models/{model}/publish")
    client.delete(f"/models/{model}/publish")
    with store.db.read() as tx:
        done = [(entry.action, entry.target) for entry in audit.page(tx, "default").data]
    assert [target for _, target in done] == [model, model]
    assert ["withdraw" in done[0][0], "publish" in done[1][0]] == [True, True]


def test_a_model_that_never_was(client: TestClient) -> None:
    for method in ("POST", "DELETE"):
        reply = client.request(method, f"/models/{new_id('mdl')}/publish")
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")
