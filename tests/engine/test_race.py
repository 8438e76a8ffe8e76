"""The race of adapting methods: what helps wins, what harms is left, labels are heeded only where they may be."""

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.engine.adaptation import race, runners
from worker.engine.methods.adapting import Domains

CLASSES, WIDTH = 5, 32
Ints = NDArray[np.int64]


def domains(*, counts: tuple[int, ...] = (30,) * CLASSES, related: bool = True) -> tuple[Domains, Ints]:
    """Lumps; the target lies elsewhere and is turned a little, or its columns are shuffled, and it is unrelated."""
    rng = np.random.default_rng(7)
    means = rng.normal(size=(CLASSES, WIDTH)) / np.sqrt(WIDTH)
    turn = np.linalg.qr(np.eye(WIDTH) + 0.08 * rng.normal(size=(WIDTH, WIDTH)))[0]
    turn = turn * np.sign(np.diag(turn))
    ys, yt = np.repeat(np.arange(CLASSES), 40), np.repeat(np.arange(CLASSES), counts)
    xs = means[ys] + 0.09 * rng.normal(size=(len(ys), WIDTH)) + 0.5
    xt = (means[yt] + 0.09 * rng.normal(size=(len(yt), WIDTH))) @ turn + 0.5 + 0.25 * rng.normal(size=WIDTH)
    xt = xt if related else xt[:, rng.permutation(WIDTH)]
    names: list[str] = []
    found = Domains(xs.astype(np.float32), ys, xt.astype(np.float32), np.full(len(yt), -1), CLASSES, names, names)
    return found, yt


def right(runner: race.Runner, found: Domains, yt: Ints) -> float:
    return float((runner.adapted.head(found.xt).argmax(axis=1) == yt).mean())


def run(found: Domains) -> race.Result:
    return race.contend(found, np.random.default_rng(0))


@pytest.fixture(scope="module")
def helped() -> tuple[race.Result, Domains, Ints]:
    found, yt = domains()
    return run(found), found, yt


def test_the_winner_beats_the_source_alone(helped: tuple[race.Result, Domains, Ints]) -> None:
    result, found, yt = helped
    assert result.chosen.name in {race.SPREAD, race.LUMPS, race.SELECTIVE, race.PSEUDO_LABELS}
    assert right(result.chosen, found, yt) > right(result.runners[0], found, yt) + 0.05
    assert result.runners[0].name == race.SOURCE_ONLY


def test_the_winner_answers_new_items_and_the_source(helped: tuple[race.Result, Domains, Ints]) -> None:
    result, found, _ = helped
    adapted = result.chosen.adapted
    assert (adapted.head(found.xt[::3]).argmax(axis=1) == adapted.head(found.xt).argmax(axis=1)[::3]).all()
    assert (adapted.source_head(found.xs).argmax(axis=1) == found.ys).mean() > 0.9


def test_the_story_names_the_winner_and_who_was_refused(helped: tuple[race.Result, Domains, Ints]) -> None:
    result = helped[0]
    told = race.story(result)
    assert f"`{result.chosen.name}`" in told[0]
    refused = [one.name for one in result.runners if one.decision is not None and not one.decision.accept]
    assert all(any(f"`{name}` was refused" in line for line in told[1:]) for name in refused)


def test_an_unrelated_target_gets_the_source_alone() -> None:
    found, _ = domains(related=False)
    assert run(found).chosen.name == race.SOURCE_ONLY


def test_classes_that_the_target_lacks_are_not_made_up() -> None:
    found, yt = domains(counts=(60, 60, 0, 0, 0))
    result = run(found)
    assert right(result.chosen, found, yt) >= right(result.runners[0], found, yt) - 0.01


def test_a_race_whose_time_is_over_begins_no_more() -> None:
    found, _ = domains()
    at_once = race.contend(found, np.random.default_rng(0), over=lambda: True)
    assert [one.name for one in at_once.runners] == [race.SOURCE_ONLY]
    asked = iter([False, True])
    early = race.contend(found, np.random.default_rng(0), over=lambda: next(asked))
    assert [one.name for one in early.runners] == [race.SOURCE_ONLY, race.PRIORS, race.CENTRED]
    assert early.chosen in early.runners


def test_guesses_are_passed_on_among_neighbours_and_the_probe_of_both_domains_answers_new_items(
    helped: tuple[race.Result, Domains, Ints],
) -> None:
    result, found, yt = helped
    by_name = {one.name: one for one in result.runners}
    spread = by_name[race.SPREAD].adapted
    assert right(by_name[race.SPREAD], found, yt) >= right(by_name[race.LUMPS], found, yt)
    rng = np.random.default_rng(3)
    near = found.xt + 0.02 * rng.normal(size=found.xt.shape).astype(np.float32)
    assert (spread.head(near).argmax(axis=1) == yt).mean() > 0.9
    assert (spread.source_head(found.xs).argmax(axis=1) == found.ys).mean() > 0.9


def test_a_target_too_large_to_compare_all_with_all_does_without_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = domains()
    monkeypatch.setattr(race, "_SPREAD_ITEMS", len(found.xt) - 1)
    result = run(found)
    assert race.SPREAD not in {one.name for one in result.runners}
    assert result.chosen.name in {race.LUMPS, race.SELECTIVE, race.PSEUDO_LABELS}
    assert any(f"`{race.SPREAD}` was left out" in line for line in race.story(result))


def test_audit_labels_choose_where_they_are_given() -> None:
    found, yt = domains(related=False)
    audit = np.where(np.arange(len(yt)) % 3 == 0, yt, -1)
    told = Domains(found.xs, found.ys, found.xt, audit, CLASSES, [], [])
    result = run(told)
    assert result.chosen.audited == max(one.audited for one in result.runners)


def test_mixing_weighs_what_each_makes_probable() -> None:
    found, _ = domains()
    one = runners.centred(found, np.random.default_rng(0), "image")
    same = runners.mixed(found, [one, one], [1, 3])
    assert (same.head(found.xt).argmax(axis=1) == one.head(found.xt).argmax(axis=1)).all()
    assert np.allclose(np.exp(same.head(found.xt)).sum(axis=1), 1, atol=1e-5)


def test_centred_probes_of_tables_take_the_spread_of_columns() -> None:
    found, yt = domains()
    scaled = Domains(
        found.xs, found.ys, found.xt * np.linspace(1, 5, WIDTH).astype(np.float32), found.audit, CLASSES, [], []
    )
    one = runners.centred(scaled, np.random.default_rng(0), "tabular")
    assert (one.head(scaled.xt).argmax(axis=1) == yt).mean() > 0.8
