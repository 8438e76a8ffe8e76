"""Networks for tables: sound embeddings, graphs that agree, whole jobs, and what one table teaches another."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.catalogue import find
from core.contract.errors import JobError
from core.contract.methods import FineTune, LinearProbe
from core.contract.prepare import TabularPrepare
from core.modality.tabular import TabularPreparer, fit
from tests.engine.jobs import Workshop
from tests.engine.tables import Row, columns, table
from worker.engine.backbones import open_base, tabular
from worker.engine.backbones.loading import Opened
from worker.engine.backbones.tabular_transfer import carry
from worker.engine.door import DataRef, Result
from worker.engine.network_graph import export_backbone
from worker.engine.sessions import open_session

KINDS = columns(a="number", b="number", k="category", m="category")
TUNE = FineTune.model_validate(tabular.suggested(200) | {"epochs": 12, "head_lr": 3e-3, "backbone_lr": 3e-3})


def some_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "a": None if rng.random() < 0.1 else float(rng.normal(5, 2)),
            "b": float(rng.normal()),
            "k": f"k{rng.integers(4)}",
            "m": "yes" if rng.random() < 0.5 else None,
        }
        for _ in range(count)
    ]


def effect(row: Row) -> float:
    return float(((row["a"] or 5.0) - 5) / 2 + row["b"] * (1, -1, 0, 2)[int(row["k"][1])])


def opened(name: str, prepare: TabularPrepare, seed: int = 0) -> Opened:
    return open_base(name, weights_dir=None, table=prepare, seed=seed)


def embedded(base: Opened, rows: list[dict[str, Any]]) -> torch.Tensor:
    arrays = TabularPreparer(base.identity.card.prepare).many(rows)  # type: ignore[arg-type]
    with torch.inference_mode():
        found: torch.Tensor = base.backbone().module(*map(torch.from_numpy, arrays))
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def classified(shop: Workshop) -> DataRef:
    rows = some_rows(400)
    return table(shop.root, rows, [int(effect(row) > 0) for row in rows], KINDS, classes=["no", "yes"])


@pytest.mark.parametrize("name", ["tabular_linear", "tabular_mlp"])
@pytest.mark.parametrize("kinds", [KINDS, columns(a="number", b="number"), columns(k="category")], ids=len)
def test_a_network_fits_its_table_and_its_graph_agrees_for_any_number_of_rows(
    name: str, kinds: Any, tmp_path: Path
) -> None:
    rows = some_rows(40)
    base = opened(name, fit(rows, kinds))
    card, backbone = base.identity.card, base.backbone()
    embedding = embedded(base, rows)
    assert embedding.shape == (40, card.width)
    assert sum(part.numel() for part in backbone.module.parameters()) == card.parameters
    assert [stage for stage, _ in backbone.stages] == card.stages
    staged = [id(part) for _, parts in backbone.stages for one in parts for part in one.parameters()]
    assert sorted(staged) == sorted(id(part) for part in backbone.module.parameters())
    export_backbone(backbone.module, card, tmp_path / "graph.onnx")
    session = open_session(tmp_path / "graph.onnx")
    for size in (1, 40):
        arrays = base.preparer().collate([base.preparer()(row) for row in rows[:size]])
        found = session.run(["embedding"], dict(zip(base.preparer().names, arrays, strict=True)))[0]
        assert np.abs(found - embedding[:size].numpy()).max() < 1e-5


def test_the_linear_embedding_is_the_encoded_row() -> None:
    rows = some_rows(60)
    prepare = fit(rows, KINDS)
    base = opened("tabular_linear", prepare)
    numbers, categories = TabularPreparer(prepare).many(rows)
    embedding = embedded(base, rows).numpy()
    assert (embedding[:, :4] == numbers).all()
    assert (embedding[:, 4:9].argmax(axis=1) == categories[:, 0]).all()
    assert (embedding[:, 9:].argmax(axis=1) == categories[:, 1]).all()
    assert (embedding[:, 4:].sum(axis=1) == 2).all()


def test_the_mlps_embedding_carries_the_linear_one() -> None:
    rows = some_rows(60)
    deep, plain = opened("tabular_mlp", fit(rows, KINDS)), opened("tabular_linear", fit(rows, KINDS))
    width = plain.identity.card.width
    assert (embedded(deep, rows)[:, -width:] == embedded(plain, rows)).all()


def test_weights_come_from_the_seed_and_other_tables_are_other_networks() -> None:
    prepare = fit(some_rows(60), KINDS)
    digests = [opened("tabular_mlp", prepare, seed).identity.weights_digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    fewer = fit([{"k": "a"}, {"k": "b"}], columns(k="category"))
    keys = {opened("tabular_linear", one).identity.key for one in (prepare, fewer)}
    assert len(keys) == 2, "graphs are kept by this key, and these have other inputs"


def test_many_rows_get_a_broad_network_and_tables_are_asked_for_by_name() -> None:
    prepare = fit(some_rows(60), KINDS)
    narrow, broad = (
        tabular.completed(find("tabular_mlp"), prepare.model_copy(update={"rows": rows})) for rows in (500, 50_000)
    )
    assert tabular.deep_width(narrow) < tabular.deep_width(broad)
    with pytest.raises(JobError) as caught:
        open_base("tabular_mlp", weights_dir=None)
    assert (caught.value.code, caught.value.param) == ("modalities_differ", "base_model")


def test_the_same_table_in_another_order_of_columns_gives_the_same_function() -> None:
    """Tensors move with their names; what both tables have gives the same figures."""
    rows = some_rows(80)
    before = fit(rows, KINDS)
    after = fit(rows, columns(m="category", b="number", k="category", a="number"))
    after = after.model_copy(update={"numbers": before.numbers[::-1]})
    old, new = opened("tabular_mlp", before), opened("tabular_mlp", after, seed=1)
    module = new.backbone().module
    assert isinstance(module, tabular.Mlp)
    carry(module, before, after, old.backbone().module.state_dict())
    deep = tabular.deep_width(old.identity.card)
    assert torch.allclose(embedded(new, rows)[:, :deep], embedded(old, rows)[:, :deep], atol=1e-5)


def test_new_columns_change_nothing_at_the_start_and_known_categories_keep_their_rows() -> None:
    rows = some_rows(80)
    before = fit(rows, KINDS)
    wider = [{**row, "new": 3.0 * number, "kind": "x"} for number, row in enumerate(rows)]
    after = fit(wider, [*KINDS, *columns(new="number", kind="category")], parent=before)
    old, new = opened("tabular_mlp", before), opened("tabular_mlp", after, seed=1)
    module = new.backbone().module
    assert isinstance(module, tabular.Mlp)
    carry(module, before, after, old.backbone().module.state_dict())
    deep = tabular.deep_width(old.identity.card)
    assert torch.allclose(embedded(new, wider)[:, :deep], embedded(old, rows)[:, :deep], atol=1e-5)


def test_an_uploaded_csv_becomes_a_model(shop: Workshop) -> None:
    """As ingestion leaves it: dates as ISO texts, empty cells as nothing, numbers as numbers."""
    rng = np.random.default_rng(0)
    start = date(2015, 1, 1)
    lines = ["age,town,since,price"]
    for _ in range(300):
        age, town, day = rng.normal(40, 10), rng.choice(["Ulm", "Bonn", ""]), start + timedelta(int(rng.integers(2000)))
        season = np.sin(2 * np.pi * day.timetuple().tm_yday / 365)
        high = (age - 40) / 10 + (town == "Ulm") + 2 * season > 0
        lines.append(f"{age:.2f},{town},{day:%d.%m.%Y},{'high' if high else 'low'}")
    result = shop.run(LinearProbe(), shop.data("\n".join(lines).encode()), base_model="tabular_linear")
    prepare = _made(result).prepare
    assert isinstance(prepare, TabularPrepare)
    assert {column.part for column in prepare.numbers if column.name == "since"} >= {"value", "year_sin", "week_cos"}
    assert [sorted(column.values) for column in prepare.categories] == [["Bonn", "Ulm"]]
    assert _score(result) > 0.85, "the season decides most, and a plain day number does not tell it"


@pytest.mark.parametrize("name", ["tabular_linear", "tabular_mlp"])
def test_a_probe_of_a_table_is_a_whole_job(shop: Workshop, classified: DataRef, name: str) -> None:
    result = shop.run(LinearProbe(), classified, base_model=name)
    manifest = _made(result)
    assert manifest.input_names == ["numbers", "categories"]
    assert manifest.parity.max_abs_difference < 1e-5
    assert _score(result) > (0.85 if name == "tabular_mlp" else 0.6), "the classes need more than a line"


def test_fine_tuning_a_table_beats_a_line(shop: Workshop, classified: DataRef) -> None:
    line = shop.run(LinearProbe(), classified, base_model="tabular_linear")
    tuned = shop.run(TUNE.model_copy(update={"init": "scratch"}), classified, base_model="tabular_mlp")
    assert _made(tuned).architecture["builder"] == "tabular"
    assert _score(tuned) > _score(line) + 0.1


@pytest.mark.parametrize("method", [LinearProbe(), TUNE], ids=lambda method: method.name)
def test_regressions_and_labels_of_any_number_are_learnt_from_tables(shop: Workshop, method: Any) -> None:
    rows = some_rows(300)
    values = table(shop.root, rows, [100 + 10 * effect(row) for row in rows], KINDS, problem="regression")
    assert _score(shop.run(method, values, base_model="tabular_mlp")) > 0.75
    labels = [[place for place, right in enumerate((row["b"] > 0, row["k"] == "k1")) if right] for row in rows]
    several = table(shop.root, rows, labels, KINDS, problem="multi_label", classes=["high", "one"])
    assert _score(shop.run(method, several, base_model="tabular_mlp")) > 0.9


def test_pretraining_on_a_large_table_helps_a_small_one_with_half_its_columns(shop: Workshop) -> None:
    """Six of twelve columns are common, and so is most of the function."""
    shared = [f"s{i}" for i in range(6)]
    source = _made_up(shop, 1200, [*shared, *(f"p{i}" for i in range(6))], seed=1)
    parent = shop.run(TUNE, source, base_model="tabular_mlp")
    names = [*shared, *(f"t{i}" for i in range(6))]
    small, much = _made_up(shop, 100, names, seed=2), _made_up(shop, 600, names, seed=3)
    carried = shop.run(LinearProbe(), small, much, base_model=_made(parent).model_id, parent=parent.bundle)
    alone = shop.run(LinearProbe(), small, much, base_model="tabular_mlp")
    assert _score(carried) > 0.65
    assert _score(carried) > _score(alone) + 0.3
    prepare = _made(carried).prepare
    assert isinstance(prepare, TabularPrepare)
    assert len(prepare.numbers) == 18, "what the parent knew, and what is new"
    assert _made(carried).lineage == [_made(parent).model_id, "tabular_mlp"]


def _made_up(shop: Workshop, count: int, names: list[str], seed: int) -> DataRef:
    x = np.random.default_rng(seed).standard_normal((count, len(names)))
    y = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) * x[:, 3] + x[:, 4] ** 2 / 2 - x[:, 5] + x[:, 7] / 2
    rows = [dict(zip(names, map(float, row), strict=True)) for row in x]
    return table(shop.root, rows, y.tolist(), columns(**dict.fromkeys(names, "number")), problem="regression")


def _made(result: Result) -> Any:
    assert result.manifest is not None
    return result.manifest


def _score(result: Result) -> float:
    """Accuracy, micro-F1 or R2."""
    return result.report.metrics[0].value
