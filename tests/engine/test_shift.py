"""The tests of a shift against brute force and known values; the kinds of shift; whole jobs that measure one."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from benchmarks import shift_power
from core.contract.errors import JobError
from core.contract.methods import METHODS, DomainShift
from core.contract.reports import Report
from core.contract.shifts import Shift
from tests.engine.jobs import Workshop
from tests.engine.tables import columns, table
from worker.engine.methods.maths import shift, shift_classes
from worker.engine.methods.shift_report import Settings, Sides, measure
from worker.engine.methods.shift_words import methods

KINDS = columns(a="number", b="number", c="number", d="number")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _pair(n: int, m: int, width: int, move: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, width)), rng.normal(size=(m, width))
    return x.astype(np.float32), (y + move).astype(np.float32)


def _members(n: int, m: int, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    fold = shift.folds(n, m, 5, rng)
    return shift.memberships(n, m, fold, count, rng), fold


def _slow_kernel(x: np.ndarray) -> np.ndarray:
    far = np.array([[np.sum((a - b) ** 2) for b in x.astype(float)] for a in x.astype(float)])
    width = np.median([far[i, j] for i in range(len(x)) for j in range(i)])
    return np.exp(-far / (2 * width))


def _slow_means(k: np.ndarray, source: list[int], target: list[int]) -> tuple[float, float, float]:
    """Mean similarities of different items within source, within target and across."""
    return (
        float(np.mean([k[i, j] for i in source for j in source if i != j])),
        float(np.mean([k[i, j] for i in target for j in target if i != j])),
        float(np.mean([k[i, j] for i in source for j in target])),
    )


def test_the_discrepancy_is_that_of_the_long_form(rng: np.random.Generator) -> None:
    x, y = _pair(7, 9, 3, 0.8)
    both = np.concatenate([x, y])
    member, _ = _members(7, 9, 20, rng)
    found = shift.mmd(shift.gram(both), member)
    slow = _slow_kernel(both)
    values = []
    for column in member.T:
        a, b, c = _slow_means(slow, np.flatnonzero(column == 1).tolist(), np.flatnonzero(column == 0).tolist())
        values.append(a + b - 2 * c)
    assert found.statistic == pytest.approx(values[0], rel=1e-4)
    assert found.p_value == pytest.approx(np.mean(np.array(values) >= values[0] - 1e-9))
    assert found.null == pytest.approx(np.quantile(values[1:], 0.95), rel=1e-4)


def test_the_share_and_its_interval_are_those_of_leaving_one_out(rng: np.random.Generator) -> None:
    x, y = _pair(8, 6, 3, 1.0)
    slow = _slow_kernel(np.concatenate([x, y]))

    def share(source: list[int], target: list[int]) -> float:
        a, b, c = _slow_means(slow, source, target)
        return (a + b - 2 * c) / (4 - a - b - 2 * c)

    source, target = list(range(8)), list(range(8, 14))
    left = [share([i for i in source if i != out], target) for out in source]
    right = [share(source, [i for i in target if i != out]) for out in target]
    error = np.sqrt(7 * np.var(left) + 5 * np.var(right))
    found = shift.mmd(shift.gram(np.concatenate([x, y])), _members(8, 6, 5, rng)[0])
    assert found.effect == pytest.approx(share(source, target), rel=1e-4)
    assert found.high == pytest.approx(found.effect + 1.959964 * error, rel=1e-3)
    assert found.low == pytest.approx(max(0.0, found.effect - 1.959964 * error), abs=1e-5)


def test_two_points_have_the_known_discrepancy(rng: np.random.Generator) -> None:
    x = np.repeat([[0.0, 0.0], [3.0, 4.0]], 5, axis=0).astype(np.float32)
    found = shift.mmd(shift.gram(x), _members(5, 5, 50, rng)[0])
    assert found.statistic == pytest.approx(2 - 2 * np.exp(-0.5), rel=1e-5)  # 25 of 45 pairs are the median apart


def test_relabellings_keep_the_sizes_in_every_fold(rng: np.random.Generator) -> None:
    member, fold = _members(23, 41, 30, rng)
    assert member[:, 0].tolist() == [1.0] * 23 + [0.0] * 41
    for number in range(5):
        assert np.ptp(member[fold == number].sum(axis=0)) == 0
    assert len(np.unique(member, axis=1).T) > 25


def test_the_classifier_is_a_discriminant_fitted_on_the_other_folds(rng: np.random.Generator) -> None:
    x, y = _pair(30, 40, 6, 0.4)
    z = np.concatenate([x, y])
    member, fold = _members(30, 40, 9, rng)
    seen = shift.with_distance(z).astype(float)
    right = []
    for column in member.T:
        hits = np.zeros(70)
        for number in range(5):
            held, rest = fold == number, fold != number
            there, away = (seen[rest & (column == side)].mean(axis=0) for side in (0, 1))
            weight = np.linalg.solve(shift.shrunk_covariance(seen[rest]), there - away)
            hits[held] = (seen[held] @ weight > weight @ (there + away) / 2) == (column[held] == 0)
        right.append((hits[column == 1].mean() + hits[column == 0].mean()) / 2)
    told = shift.classifier(z, member, fold)
    assert told.tested.statistic == pytest.approx(right[0])
    assert told.tested.effect == pytest.approx(4 * right[0] - 2)
    least, most = np.mean(np.array(right) > right[0] + 1e-9), np.mean(np.array(right) >= right[0] - 1e-9)
    assert least < told.tested.p_value <= most
    assert told.tested.low < told.tested.effect < told.tested.high


def test_axes_are_the_principal_ones(rng: np.random.Generator) -> None:
    x = (rng.normal(size=(60, 200)) * np.geomspace(30, 0.1, 200)).astype(np.float32)
    z = shift.axes(x, 5, rng)
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    assert np.allclose(np.abs(z), np.abs(u[:, :5] * s[:5]), rtol=1e-2, atol=0.5)
    assert shift.axes(np.ones((9, 4), dtype=np.float32), 3, rng).shape == (9, 1)


def test_overlap_is_whole_without_a_shift_and_nothing_without_common_ground(rng: np.random.Generator) -> None:
    found = []
    for move in (0.0, 0.25, 6.0):
        x, y = _pair(200, 200, 5, move)
        member, fold = _members(200, 200, 100, rng)
        found.append(shift.classifier(np.concatenate([x, y]), member, fold).overlap)
    assert found[0] > 0.9
    assert 0.4 < found[1] < 0.95
    assert found[2] < 0.02


@pytest.mark.parametrize("world", shift_power.nulls()[::3], ids=lambda world: world.name)
def test_false_alarms_are_as_rare_as_promised(world: shift_power.Null) -> None:
    shares = [share for _, share, _, _ in shift_power.false_alarms(world, 120, 100)]
    assert len(shares) == 2
    assert all(0.005 <= share <= 0.11 for share in shares), shares


@pytest.mark.parametrize("kind", list(shift_power.AMOUNTS))
def test_larger_shifts_are_found_more_often(kind: str) -> None:
    amounts = shift_power.AMOUNTS[kind]
    found = [[share for _, share, _, _ in shift_power.power(kind, a, 100, 15, 100)] for a in (amounts[0], amounts[-1])]
    for weak, strong in zip(*found, strict=True):
        assert weak + 0.3 <= strong
        assert strong >= 0.6


def test_class_shares_are_found_again_with_mistakes_allowed_for(rng: np.random.Generator) -> None:
    labels = np.repeat([0, 1, 2], [400, 400, 200])
    truth = np.repeat([0, 1, 2], [100, 300, 600])

    def said(classes: np.ndarray) -> np.ndarray:  # one in five is taken for the next class
        return np.where(np.arange(len(classes)) % 5 == 0, (classes + 1) % 3, classes)

    guessed = shift_classes.Guessed(said(labels), said(truth))
    found = shift_classes.priors(labels, guessed, 3, 200, rng)
    assert found.source == pytest.approx([0.4, 0.4, 0.2])
    assert found.target == pytest.approx([0.1, 0.3, 0.6], abs=0.02)
    assert found.low < found.distance == pytest.approx(0.4, abs=0.02)
    assert found.distance < found.high < 0.5
    assert found.p_value == pytest.approx(1 / 201)


def test_histograms_are_compared_as_by_chi_squared(rng: np.random.Generator) -> None:
    source, target = np.array([40, 30, 30, 0]), np.array([55, 20, 25, 0])
    exact = chi2_contingency(np.stack([source, target])[:, :3], correction=False).pvalue
    assert shift_classes._alike(source, target, 4000, rng) == pytest.approx(exact, abs=0.03)


def test_reweighting_by_the_right_shares_takes_the_discrepancy_away() -> None:
    rng = np.random.default_rng(3)
    source, labels, target = shift_power.shifted("label", 0.4, 300, rng)
    kernel = shift.gram(np.concatenate([source, target]))
    plain = shift_classes.reweighted_mmd(kernel, np.ones(300))
    assert plain == pytest.approx(shift.mmd(kernel, _members(300, 300, 5, rng)[0]).statistic, rel=1e-3)
    ratio = np.array([0.65, *[0.35 / 3] * 3]) * 4
    assert abs(shift_classes.reweighted_mmd(kernel, ratio[labels])) < 0.1 * plain


def test_moves_of_classes_are_measured_free_of_chance(rng: np.random.Generator) -> None:
    labels = np.arange(120) % 3
    source = rng.normal(size=(120, 50)) + 5 * np.eye(3, 50)[labels]
    target = rng.normal(size=(120, 50)) + 5 * np.eye(3, 50)[labels]
    move = 4 * np.eye(1, 50, 10)
    still = shift_classes.moves(source, labels, target, labels, 4)
    together = shift_classes.moves(source, labels, target + move, labels, 4)
    apart = shift_classes.moves(source, labels, target + 4 * np.eye(3, 50, 10)[labels], labels, 4)
    assert np.nanmax(still.distance) < 0.15
    assert np.isnan(still.distance[3])
    assert together.distance[:3] == pytest.approx(4 / np.sqrt(50), rel=0.15)
    assert together.common > 0.9
    assert apart.common == pytest.approx(1 / 3, abs=0.1)


def _measured(kind: str, count: int = 200, seed: int = 1, **more: object) -> Shift:
    rng = np.random.default_rng(seed)
    source, labels, target = shift_power.world_of(kind, count, rng)
    names = [[f"{side}/{number}" for number in range(count)] for side in ("s", "t")]
    return measure(Sides(source, labels, target, list("abcd"), *names), rng, Settings(permutations=200), **more)


@pytest.mark.parametrize("kind", ["none", "covariate", "label", "conditional", "general"])
def test_the_kind_is_told(kind: str) -> None:
    found = _measured(kind)
    assert found.kind == kind
    assert (found.size == "negligible") == (kind == "none")
    assert found.methods == methods(found.kind)
    assert (found.drivers == []) == (kind == "none")
    words = {"none": "cannot be told apart", "label": "label shift", "covariate": "covers the target"}
    words |= {"conditional": "align the classes", "general": "one map"}
    assert words[kind] in found.sentence
    assert found.after is None
    assert [test.name for test in found.tests] == ["mmd", "classifier"]
    assert Shift.model_validate_json(found.model_dump_json()) == found


def test_methods_are_those_made_for_the_kind_and_proved_ones_come_first() -> None:
    assert methods("none") == []
    checked = 0
    for kind in ("covariate", "label", "conditional", "general"):
        found = methods(kind)
        assert all(kind in METHODS[name].shifts and METHODS[name].adapts for name in found)
        order = [METHODS[name].trains_network for name in found]
        assert all(a <= b for a, b in pairwise(order))
        checked += len(found)
    assert checked > 20
    assert methods("covariate")[0] == "domain_weights"
    assert methods("general")[:2] == ["selective_pseudo_labels", "prototype_self_training"]


@pytest.mark.parametrize(("share", "said"), [(1.0, "no better than chance"), (0.8, "falls to"), (0.0, "stays at")])
def test_what_adaptation_did_stands_beside(share: float, said: str, rng: np.random.Generator) -> None:
    source, labels, target = shift_power.world_of("general", 100, rng)
    sides = Sides(source, labels, target, list("abcd"), ["s"] * 100, ["t"] * 100)
    aligned = (source - share * source.mean(axis=0), target - share * target.mean(axis=0))
    found = measure(sides, rng, Settings(permutations=100), after=aligned)
    assert found.after is not None
    assert (found.after.tests[1].effect < 0.3) == (share == 1)
    assert found.tests[1].effect > 1.8
    assert len(found.after.cloud.source) == 100
    assert said in found.sentence


def test_large_domains_are_sampled_and_keep_their_names() -> None:
    rng = np.random.default_rng(0)
    source, target = _pair(300, 900, 4, 0.0)
    target[700] = 40  # one item that is unlike all others
    names = [[f"{side}{number}" for number in range(900)] for side in ("s", "t")]
    settings = Settings(max_items=850, permutations=100, level=0.5)
    found = measure(Sides(source, None, target + 0.5, [], *names), rng, settings)
    assert (found.source_items, found.target_items) == (300, 850)
    assert (len(found.before.source), len(found.before.target)) == (300, 400)
    assert found.drivers[0].domain == "target"
    assert found.drivers[0].name == "t700"
    assert len(found.drivers) == 20
    assert (found.labels, found.classes, found.common) == (None, [], None)
    assert {spot[2] for spot in found.before.target} == {-1}


def test_features_that_are_all_alike_are_no_shift(rng: np.random.Generator) -> None:
    flat = np.ones((20, 3), dtype=np.float32)
    found = measure(Sides(flat, np.arange(20) % 2, flat, ["a", "b"], ["s"] * 20, ["t"] * 20), rng)
    assert found.kind == "none"
    assert found.tests[0].statistic == 0


@pytest.mark.parametrize(("n", "m", "width"), [(3, 3, 2), (3, 40, 1), (40, 3, 300)])
def test_a_few_items_are_enough_to_be_measured(n: int, m: int, width: int, rng: np.random.Generator) -> None:
    x, y = _pair(n, m, width, 0.5)
    found = measure(Sides(x, np.arange(n) % 2, y, ["a", "b"], ["s"] * n, ["t"] * m), rng, Settings(permutations=100))
    assert 0 <= found.tests[1].statistic <= 1
    assert sum(row.source_items for row in found.classes) == n


@pytest.mark.parametrize(("n", "m", "side"), [(2, 50, "source"), (50, 2, "target")])
def test_too_few_items_are_refused(n: int, m: int, side: str, rng: np.random.Generator) -> None:
    x, y = _pair(n, m, 3, 0.0)
    with pytest.raises(JobError, match="2 items") as caught:
        measure(Sides(x, None, y, [], ["s"] * n, ["t"] * m), rng)
    assert (caught.value.code, caught.value.param) == ("too_few_items", side)


def _rows(count: int, move: float, seed: int) -> tuple[list[dict[str, float]], list[int]]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    x = rng.normal(size=(count, 4)) + 3 * np.eye(4)[labels] + move * np.array([1, -0.5, 0.5, 1])
    return [dict(zip("abcd", map(float, row), strict=True)) for row in x], labels.tolist()


def test_a_job_measures_the_shift_and_makes_no_model(tmp_path) -> None:
    shop = Workshop(tmp_path)
    source = table(shop.root, *_rows(120, 0.0, 1), KINDS, classes=("x", "y", "z"), seed=1)
    rows, _ = _rows(90, 3.0, 2)
    target = table(shop.root, rows, [None] * 90, KINDS, seed=2)
    result = shop.run(DomainShift(permutations=100), source, target=target, base_model="tabular_mlp")
    assert (result.manifest, result.bundle, result.report.model_id) == (None, None, None)
    found = Report.model_validate_json(result.report.model_dump_json()).shift
    assert found is not None
    assert (found.kind, found.target_items) == ("general", 90)
    assert [row.name for row in found.classes] == ["x", "y", "z"]
    assert shop.said("metric")[-1]["a_distance"] == found.tests[1].effect
    plain = table(shop.root, _rows(80, 0.0, 3)[0], [None] * 80, KINDS, seed=3)
    found = shop.run(DomainShift(permutations=100), plain, target=target, base_model="tabular_mlp").report.shift
    assert found is not None
    assert (found.kind, found.labels, found.classes, found.source_items) == ("general", None, [], 80)
    with pytest.raises(JobError) as caught:
        shop.run(DomainShift(), source, base_model="tabular_mlp")
    assert caught.value.code == "target_required"
