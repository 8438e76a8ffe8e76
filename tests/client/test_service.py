"""The SDK and the command line on the real API; the workers' part is entered in the store by hand."""

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from core.contract.base import new_id
from core.contract.errors import JobError
from core.contract.jobs import Progress
from core.settings import Settings
from core.store import jobs
from core.store.events import NewEvent
from core.store.store import Store
from graft import ConflictError, DatasetRejectedError, Graft, InvalidRequestError, JobFailedError, NotFoundError, types
from graft.cli import main
from tests.app.bundles import make_bundle, put
from tests.app.conftest import serving
from tests.app.sample_reports import sample_report
from tests.app.seed import add_dataset, add_job, start_job
from tests.builders import folder_zip, image_bytes


@pytest.fixture
def url(settings: Settings, sqlite_store: Store) -> Iterator[str]:
    """Address of the API over SQLite."""
    with capture_logs(), serving(settings) as address:  # (its log would stand among the command line's output)
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Graft]:
    """The SDK on it."""
    with Graft(url) as value:
        yield value


@pytest.mark.parametrize("resumable", [False, True])
def test_a_table_is_read_as_it_is_said(client: Graft, url: str, tmp_path: Path, *, resumable: bool) -> None:
    table = tmp_path / "houses.csv.gz"
    table.write_bytes(b"size,price\n1,2\n")
    said = {"target": "price", "problem": "regression", "modality": "tabular", "split": "part"}
    sent = client.datasets.upload(table, resumable=resumable, **said)
    assert (sent.name, sent.reading) == ("houses", types.Reading(**said))
    with pytest.raises(SystemExit):
        main(["--url", url, "datasets", "upload", str(table), "--no-wait", "--target", "price", "--text", "note"])
    assert next(client.datasets.list()).reading == types.Reading(target="price", text="note")


def test_a_data_set_from_upload_to_deletion(client: Graft, tmp_path: Path) -> None:
    sent = client.datasets.upload(io.BytesIO(folder_zip({"a": 2, "b": 2})), name="mine", seed=3, metadata={"team": "x"})
    assert (sent.state, sent.name, sent.metadata) == ("validating", "mine", {"team": "x"})
    folder = tmp_path / "letters"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.png").write_bytes(image_bytes(1))
    packed = client.datasets.upload(folder)
    assert packed.name == "letters"
    assert [found.id for found in client.datasets.list(state="validating")] == [packed.id, sent.id]
    with pytest.raises(ConflictError, match=r"."):
        client.datasets.report(sent)
    client.datasets.delete(sent)
    with pytest.raises(NotFoundError) as caught:
        client.datasets.get(sent)
    assert caught.value.code == "dataset_not_found"
    assert caught.value.request_id


def test_the_word_of_a_jobs_end_and_its_deletion(client: Graft, sqlite_store: Store) -> None:
    job = client.jobs.create(add_dataset(sqlite_store), webhook="https://example.com/hook")
    assert job.webhook == {"url": "https://example.com/hook"}
    assert client.jobs.deliveries(job) == []
    with pytest.raises(ConflictError) as refused:
        client.jobs.delete(job)
    assert refused.value.code == "job_not_finished"
    client.jobs.cancel(job)
    (delivery,) = client.jobs.deliveries(job)
    assert (delivery.event, delivery.state) == ("job.cancelled", "pending")
    assert client.jobs.retry_delivery(job, delivery).id == delivery.id
    client.jobs.delete(job)
    with pytest.raises(NotFoundError):
        client.jobs.get(job)
    with pytest.raises(InvalidRequestError) as inside:
        client.jobs.create(add_dataset(sqlite_store), webhook="http://127.0.0.1/")
    assert inside.value.code == "webhook_not_allowed"


def test_lists_longer_than_a_page(client: Graft, sqlite_store: Store) -> None:
    source = add_dataset(sqlite_store)
    made = [add_job(sqlite_store, source) for _ in range(103)]
    assert [job.id for job in client.jobs.list(source=source, state="queued")] == made[::-1]
    assert [job.id for job in client.jobs.list(limit=2)] == made[:-3:-1]


def test_what_was_found_in_a_data_set(client: Graft, sqlite_store: Store) -> None:
    found = client.datasets.wait(add_dataset(sqlite_store), timeout=60)
    assert found.classes == ["cat", "dog"]
    assert client.datasets.report(found).items == 6
    samples = list(client.datasets.samples(found, label="dog"))
    assert {sample.label for sample in samples} == {"dog"}
    assert client.datasets.thumbnail(found, samples[0].index, size=32).startswith(b"\xff\xd8")
    with pytest.raises(DatasetRejectedError, match="It is no archive"):
        client.datasets.wait(add_dataset(sqlite_store, state="rejected"))


def test_a_job_is_followed_to_its_end(client: Graft, sqlite_store: Store) -> None:
    source = client.datasets.get(add_dataset(sqlite_store))
    job = client.jobs.create(source, method="fine_tune", epochs=2, early_stop=None, max_seconds=60)
    assert job.method.options["epochs"] == 2
    assert job.budget == {"max_seconds": 60}
    fence = start_job(sqlite_store)
    seen: list[types.Event] = []
    first = threading.Event()

    def work() -> None:
        assert first.wait(60)
        with sqlite_store.db.write() as tx:
            jobs.record(tx, fence, [NewEvent("metric", {"epoch": 1, "accuracy": 0.5})])
            error = JobError("No room.", code="out_of_memory", hint="Smaller batch_size.")
            jobs.transition(tx, job.id, "failed", fence=fence, error=error.body())

    def on_event(event: types.Event) -> None:
        seen.append(event)
        first.set()

    worker = threading.Thread(target=work)
    worker.start()
    with pytest.raises(JobFailedError, match="Smaller batch_size") as caught:
        client.jobs.wait(job, on_event=on_event)
    worker.join()
    assert caught.value.code == "out_of_memory"
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    assert [event.kind for event in seen] == ["state", "state", "metric", "state"]
    assert [event.seq for event in client.jobs.stream(job, after=2)] == [3, 4]


def test_a_job_with_a_target(client: Graft, sqlite_store: Store) -> None:
    source, target = (client.datasets.get(add_dataset(sqlite_store, per_class=6)) for _ in range(2))
    job = client.jobs.create(source, target=target, target_labels="few")
    plain = client.jobs.create(source)
    assert (job.target, job.target_labels, plain.target) == (target.id, "few", None)
    assert [one.id for one in client.jobs.list(target=target)] == [job.id]
    assert client.jobs.estimate(source, target=target.id).valid
    with pytest.raises(InvalidRequestError, match="takes no `target`") as caught:
        client.jobs.create(source, method="linear_probe", target=target)
    assert caught.value.param == "target"
    cards = {card.name: card for card in client.methods.list()}
    assert (cards["auto"].takes_target, cards["auto"].needs_target) == (True, False)
    assert "partial" in cards["auto"].label_spaces
    assert cards["auto"].shifts


def test_wishes(client: Graft, sqlite_store: Store) -> None:
    source = add_dataset(sqlite_store)
    waiting = client.jobs.create(source)
    with pytest.raises(ConflictError) as caught:
        client.jobs.stop(waiting)
    assert caught.value.code == "job_not_started"
    assert client.jobs.cancel(waiting).state == "cancelled"
    running = client.jobs.create(source)
    start_job(sqlite_store)
    assert client.jobs.stop(running).stop_requested
    with pytest.raises(ConflictError) as caught:
        client.jobs.report(running)
    assert caught.value.code == "report_not_ready"


def test_a_misspelt_option_is_named(client: Graft, sqlite_store: Store) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        client.jobs.create(add_dataset(sqlite_store), method={"name": "fine_tune", "epoch": 3})
    assert caught.value.param is not None
    assert "epoch" in caught.value.param
    assert "epochs" in str(caught.value.hint)


def test_a_model_is_downloaded_and_called(client: Graft, sqlite_store: Store, tmp_path: Path) -> None:
    bundle = put(sqlite_store, make_bundle())
    model = client.models.get(bundle.model.id)
    assert [found.id for found in client.models.list()] == [model.id]
    half = tmp_path / f".m.zip.{model.sha256}.part"
    half.write_bytes(bundle.zip[: len(bundle.zip) // 2])
    assert client.models.download(model, tmp_path / "m.zip").read_bytes() == bundle.zip
    name = model.files[0].name
    assert client.models.file(model, name, tmp_path).read_bytes() == bundle.files[name]
    images: list[bytes | Path] = [image_bytes(1), b"no image", tmp_path / "1.png"]
    (tmp_path / "1.png").write_bytes(image_bytes(1))
    answers = client.models.predict(model, images, top_k=2)
    assert [answer.index for answer in answers.predictions] == [0, 1, 2]
    assert answers[0].label == answers[2].label
    assert len(answers[0].top) == 2
    assert answers[1].error is not None
    assert answers[2].name == "1.png"
    client.models.delete(model)
    assert list(client.models.list()) == []


def test_a_model_is_published_kept_and_withdrawn(
    client: Graft, sqlite_store: Store, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, other = (put(sqlite_store, make_bundle()).model.id for _ in range(2))
    published = client.models.publish(model, override="It is needed.")
    assert published.publication is not None
    assert published.publication.override == "It is needed."
    assert [found.id for found in client.models.list(published=True)] == [model]
    assert [found.id for found in client.models.list(published=False)] == [other]
    with pytest.raises(ConflictError) as caught:
        client.models.delete(model)
    assert caught.value.code == "model_published"
    client.models.withdraw(model)
    assert client.models.get(model).publication is None
    for words in (["publish", model], ["get", model], ["withdraw", model]):
        with pytest.raises(SystemExit) as ended:
            main(["--url", url, "models", *words])
        assert not ended.value.code
    assert "published" in capsys.readouterr().out


def test_the_menus_are_whole(client: Graft) -> None:
    methods = {card.name: card for card in client.methods.list()}
    assert {"linear_probe", "fine_tune"} <= set(methods)
    assert "epochs" in client.methods.get("fine_tune").options["properties"]
    cards = {card.id for card in client.base_models.list()}
    assert client.base_models.get("efficientnet_lite0").id in cards
    with pytest.raises(NotFoundError):
        client.methods.get("nothing/../like it")


def test_health_names_the_missing_workers(client: Graft) -> None:
    found = client.health()
    assert (found.live, found.ready) == (True, False)
    assert "worker" in found.details["checks"]["worker:jobs"]


def test_types_know_every_field(client: Graft, sqlite_store: Store) -> None:
    """What the service sends is typed here, so that a new field of the contract is not forgotten."""
    job = add_job(sqlite_store, add_dataset(sqlite_store))
    fence = start_job(sqlite_store)
    with sqlite_store.db.write() as tx:
        jobs.record(tx, fence, [], progress=Progress(step="train", fraction=0.5))
    bundle = put(sqlite_store, make_bundle())
    source = next(client.datasets.list())
    found = [client.jobs.get(job), client.models.get(bundle.model.id), source, client.datasets.report(source)]
    found += [next(client.datasets.samples(source)), *client.methods.list(), *client.base_models.list()]
    found += [types.Report.model_validate(sample_report().model_dump(mode="json")), next(client.jobs.stream(job))]
    for thing in found:
        assert set(thing.model_extra or {}) <= {"version"}, type(thing)


def test_the_command_line_on_the_real_service(
    url: str,
    sqlite_store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # where a long path leaves no room for a table
    source = add_dataset(sqlite_store)
    model = put(sqlite_store, make_bundle()).model.id
    image = tmp_path / "1.png"
    image.write_bytes(image_bytes(1))

    def run(*arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["--url", url, *arguments])
        out, err = capsys.readouterr()
        assert int(ended.value.code or 0) == code, err
        return out or err

    job = json.loads(run("jobs", "create", "--source", source, "--method", "linear_probe", "--json"))["id"]
    assert job in run("jobs", "list")
    assert "cancelled" in run("jobs", "cancel", job)
    assert "was cancelled" in run("jobs", "watch", job, code=3)
    assert "hint" in run("jobs", "report", job, code=1)
    assert "Nothing was sent" in run("jobs", "deliveries", job)
    assert "Deleted" in run("jobs", "delete", job)
    assert "cat" in run("datasets", "report", source)
    assert "cat/" in run("datasets", "samples", source)
    answer = run("predict", model, str(image))
    assert str(image) in answer
    assert "probability" in answer
    assert model in run("models", "get", model)
    assert run("models", "download", model, "-o", str(tmp_path)).strip() == str(tmp_path / f"{model}.zip")
    assert "regularisation" in run("methods", "linear_probe")
    assert "efficientnet_lite0" in run("base-models")
    assert "not ready" in run("health", code=1)
    assert "There is no" in run("jobs", "get", new_id("job"), code=1)
