"""Timed steps of a training on texts stand for batches of like texts, of which the job has more to choose from."""

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from core.contract.base import new_id
from core.contract.jobs import JobSpec
from core.contract.methods import FineTune
from core.estimating.observing import Epoch
from tests.engine.jobs import Workshop
from tests.engine.texts import NAME, lay_down
from worker.engine import measuring
from worker.engine.batches import of_like_size, padded
from worker.engine.data import Items
from worker.engine.door import Inputs, Places
from worker.engine.feeds import item_feed
from worker.engine.prepared import PreparedItems


def _table(rows: int = 300) -> bytes:
    """Texts of one to sixty words, most of them short."""
    rng = np.random.default_rng(0)
    file = io.StringIO()
    out = csv.writer(file)
    out.writerow(["text", "label"])
    for number, count in enumerate(np.clip(rng.lognormal(2, 0.8, rows), 1, 60).astype(int)):
        said = "good" if number % 2 else "bad"
        out.writerow([" ".join([*rng.choice(["the", "a", "book", "film", "is"], count), said]), said])
    return file.getvalue().encode()


def test_timed_steps_count_as_what_the_jobs_own_batches_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Workshop(tmp_path)
    lay_down(shop.weights)
    source = shop.data(_table())
    spec = JobSpec(method=FineTune(epochs=2, batch_size=16), base_model=NAME, source=source.id, baselines="none")
    places = Places(tmp_path / "out", tmp_path / "cache", weights=shop.weights, device="cpu", threads=1)
    inputs = Inputs(new_id("job"), new_id("mdl"), source, None, None, None, None)
    seen: list[tuple[int, float, float]] = []
    fed: list[tuple[int, float]] = []
    as_padded = measuring._Bench.as_padded

    def lengths(bench: measuring._Bench, items: Items) -> list[int]:
        prepare = bench.base.preparer()
        return [len(prepare(items.item(position))[0]) for position in range(len(items))]

    def heard(bench: measuring._Bench, epochs: list[Epoch], size: int) -> list[Epoch]:
        found = as_padded(bench, epochs, size)
        own, timed = (
            padded(long, of_like_size(long, size, spec.seed)(1))
            for long in (lengths(bench, bench.data.train), lengths(bench, bench._timed(size)))
        )
        with ThreadPoolExecutor(1) as pool:
            prepared = PreparedItems(bench.data.train, bench.base.preparer(), share=0.1)
            feed = item_feed(prepared, batch_size=size, seed=spec.seed, device=bench.device, pool=pool, ahead=1)
            shapes = [batch.inputs[0].shape for batch in feed(1, 0)]
        fed.append((sum(rows * width for rows, width in shapes), own * len(bench.data.train)))
        seen.append((size, found[0].seconds / epochs[0].seconds, own / timed))
        return found

    monkeypatch.setattr(measuring._Bench, "as_padded", heard)
    monkeypatch.setattr(measuring, "_TRAIN_SECONDS", 3.0)
    for _ in range(2):  # the first exports the network, and that is all it does
        measuring.measure(spec, inputs, places, should_stop=lambda: "go_on")
    assert {size for size, *_ in seen} >= {16}
    for computed, reckoned in fed:  # what training is really fed with is padded as little
        assert computed == pytest.approx(reckoned, rel=0.1)
    for _, share, true in seen:
        assert share == pytest.approx(true, rel=0.1)
    assert {size: share for size, share, _ in seen}[16] < 0.85
