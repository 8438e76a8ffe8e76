"""Verdicts: the statistics against independent computations, the rules against cases made for them."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest
from sklearn.metrics import f1_score, r2_score

from worker.engine import paired
from worker.engine.judge import Contender, best, judge, lost, margin
from worker.engine.paired import Answers, answers, compare, interval, mcnemar, tango


def right(bits):
    """Answers of a classification."""
    hits = np.asarray(bits, dtype=np.float64)
    return Answers(hits, np.ones(len(hits)), paired_right=True)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_figure_is_what_scikit_learn_calls_it():
    source = rng()
    labels = source.integers(0, 3, 50)
    logits = source.normal(size=(50, 3))
    assert answers("classification", logits, labels).figure == pytest.approx((logits.argmax(1) == labels).mean())
    many = (source.random((50, 3)) < 0.4).astype(np.float32)
    expected = f1_score(many, logits > 0, average="micro")
    assert answers("multi_label", logits, many).figure == pytest.approx(expected)
    values = source.normal(size=(50, 1))
    said = values + 0.3 * source.normal(size=(50, 1))
    assert answers("regression", said, values).figure == pytest.approx(r2_score(values, said))


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (5, 0), (6, 0), (10, 2), (40, 31), (0, 9)])
def test_mcnemar_is_the_binomial_test_of_the_pairs_that_differ(better, worse):
    expected = binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert mcnemar(better, worse) == pytest.approx(expected)


@pytest.mark.parametrize(("better", "worse", "n"), [(10, 2, 100), (5, 0, 20), (3, 3, 40), (1, 30, 60)])
def test_tangos_bounds_are_where_the_score_of_the_constrained_likelihood_is_critical(better, worse, n):
    """The nuisance parameter found by maximising the likelihood numerically, not by the closed form."""

    def score(delta):
        def loss(q):
            cells = [q + delta, q, 1 - 2 * q - delta]
            counts = [better, worse, n - better - worse]
            return -sum(count * math.log(max(cell, 1e-300)) for count, cell in zip(counts, cells, strict=True))

        bounds = (max(0.0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12)
        q = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        return (better - worse - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))

    low, high = tango(better, worse, n)
    assert score(low) == pytest.approx(1.959964, abs=1e-3)
    assert score(high) == pytest.approx(-1.959964, abs=1e-3)
    assert tango(worse, better, n) == pytest.approx((-high, -low))


def test_tango_at_the_edges():
    assert tango(0, 0, 0) == (-1.0, 1.0)
    z = 1.959963984540054**2
    assert tango(0, 0, 100) == pytest.approx((-z / (100 + z), z / (100 + z)), abs=1e-6)
    assert tango(20, 0, 20)[1] == 1.0
    assert tango(0, 20, 20)[0] == -1.0


def test_the_bootstrap_agrees_with_the_normal_interval_of_a_mean():
    source = rng()
    n, ones = 800, np.ones(800)
    first, second = source.normal(0.2, 1, n), source.normal(0, 1, n)
    found = compare(Answers(first, ones), Answers(second, ones), rng())
    spread = (first - second).std(ddof=1) / math.sqrt(n)
    assert found.effect == pytest.approx((first - second).mean())
    assert found.low == pytest.approx(found.effect - 1.96 * spread, abs=0.25 * spread)
    assert found.high == pytest.approx(found.effect + 1.96 * spread, abs=0.25 * spread)
    expected = 2 * (1 - 0.5 * (1 + math.erf(abs(found.effect) / spread / math.sqrt(2))))
    assert found.p_value == pytest.approx(expected, abs=0.02)


def test_blocks_of_many_items_give_the_interval_of_single_ones():
    source = rng()
    n = 20_000
    one, other = Answers(source.normal(0.03, 1, n), np.ones(n)), Answers(np.zeros(n), np.ones(n))
    found = compare(one, other, rng())
    assert found.high - found.low == pytest.approx(2 * 1.96 / math.sqrt(n), rel=0.1)
    assert found.low > 0


def test_the_same_seed_gives_the_same_interval():
    one, other = (Answers(rng(seed).random(60), np.ones(60)) for seed in (1, 2))
    assert compare(one, other, rng(5)) == compare(one, other, rng(5))


def test_interval_and_p_value_agree():
    source = rng()
    for _ in range(60):
        n = int(source.integers(5, 60))
        first, second = source.random(n) < 0.8, source.random(n) < 0.6
        for ours, theirs in ((right(first), right(second)), (_squares(source, n), _squares(source, n))):
            found = compare(ours, theirs, source)
            assert found.low <= found.effect <= found.high
            if found.p_value >= 0.05:
                assert found.low <= 0 <= found.high


def _squares(source, n):
    return Answers(1 - source.standard_t(4, n) ** 2, np.ones(n))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_without_a_true_difference_a_verdict_comes_up_in_at_most_one_job_of_twenty(kind):
    source = rng(3)
    jobs, n = 400, 60
    found = sum(_undeserved(source, n, kind) for _ in range(jobs))
    # 20 are expected at most; 33 or more of 400 have a chance of 0.3 % if each has 5 %.
    assert found <= 33


def _undeserved(source, n, kind):
    hard = source.random(n)
    if kind == "classification":
        ours, theirs = (right((hard < 0.8) ^ (source.random(n) < 0.1)) for _ in range(2))
    else:
        ours, theirs = (Answers(1 - (hard + 0.4 * source.standard_t(5, n)) ** 2, np.ones(n)) for _ in range(2))
    found = compare(ours, theirs, source)
    return found.low > 0 or found.high < 0


def test_a_single_arms_interval_covers_its_figure():
    low, high = interval(right([1] * 15 + [0] * 133), rng())
    assert (low, high) == pytest.approx((0.0624, 0.1605), abs=1e-4)  # Newcombe 1998
    scores = Answers(rng().normal(0.5, 0.2, 200), np.ones(200))
    low, high = interval(scores, rng())
    assert low < scores.figure < high
    assert high - low == pytest.approx(2 * 1.96 * 0.2 / math.sqrt(200), rel=0.2)


def test_items_needed_is_what_a_simulation_needs():
    source = rng(1)
    rates = (0.15, 0.05)  # of the items, the method alone, or the other alone, gets so many right
    n = 2000
    draw = source.random(n)
    ours, theirs = right(draw >= rates[1]), right((draw >= rates[0] + rates[1]) | (draw < rates[1]))
    needed = paired.items_needed(ours, theirs, rates[0] - rates[1])
    assert needed == pytest.approx(149, rel=0.15)  # (1.96 + 0.84)^2 (0.20 - 0.01) / 0.1^2
    told = 0
    for _ in range(400):
        better, worse, _same = source.multinomial(needed, [*rates, 1 - sum(rates)])
        told += paired.tango(better, worse, needed)[0] > 0
    assert told / 400 == pytest.approx(0.8, abs=0.07)


def test_the_margin_is_two_items_within_one_and_two_points():
    assert [margin(n) for n in (10, 100, 150, 200, 10_000)] == pytest.approx([0.02, 0.02, 2 / 150, 0.01, 0.01])


def _judge(method, *baselines, n=200, **options):
    labels = np.arange(n) % 2
    return judge(method, list(baselines), "classification", labels, ["a", "b"], rng=rng(), **options).judgement


def _arm(name, share, n=200, *, seed=0, choosing=None, constant=False):
    """An arm that is right on so many of the items, chosen by a seed."""
    hits = rng(seed).permutation(np.arange(n) < share * n)
    seen = rng(seed + 50).permutation(np.arange(n) < (share if choosing is None else choosing) * n)
    return Contender(name, right(hits), right(seen), constant)


CHANCE = _arm("majority", 0.5, seed=9, constant=True)


def test_each_verdict_has_its_case():
    assert _judge(_arm("fine_tune", 0.95), _arm("linear_probe", 0.8, seed=1), CHANCE).verdict == "improved"
    assert _judge(_arm("fine_tune", 0.7), _arm("linear_probe", 0.9, seed=1), CHANCE).verdict == "harmful"
    assert _judge(_arm("fine_tune", 0.9), _arm("linear_probe", 0.88, seed=1), CHANCE).verdict == "undetermined"
    slightly_worse = right(np.r_[np.zeros(3), rng().permutation(np.arange(997) < 900)])
    base = right(np.r_[np.ones(3), slightly_worse.hits[3:]])
    found = _judge(
        Contender("fine_tune", slightly_worse, slightly_worse),
        Contender("linear_probe", base, base),
        _arm("majority", 0.5, 1000, seed=9, constant=True),
        n=1000,
    )
    assert found.verdict == "not_improved"


def test_a_difference_that_is_sure_but_tiny_is_of_no_use():
    n = 4000
    base = np.arange(n) < 3000
    found = _judge(
        Contender("fine_tune", right(base | (np.arange(n) >= n - 20)), right(base)),
        Contender("linear_probe", right(base), right(base)),
        n=n,
    )
    assert found.difference.low > 0
    assert found.difference.effect < found.margin
    assert found.verdict == "not_improved"


def test_the_baseline_is_chosen_by_validation_and_never_by_the_held_out_items():
    lucky = _arm("nearest_class_mean", 0.99, seed=1, choosing=0.7)
    steady = _arm("linear_probe", 0.85, seed=2, choosing=0.86)
    assert best([lucky, steady]) is steady
    found = _judge(_arm("fine_tune", 0.95), lucky, steady, CHANCE)
    assert (found.baseline, found.verdict) == ("linear_probe", "improved")


def test_shuffled_labels_are_never_improved():
    source = rng(4)
    verdicts = []
    for _ in range(150):
        names = ["fine_tune", "linear_probe", "majority"]
        arms = [
            Contender(name, right(source.random(80) < 0.5), right(source.random(80) < 0.5), name == "majority")
            for name in names
        ]
        verdicts.append(_judge(arms[0], *arms[1:], n=80).verdict)
    assert verdicts.count("improved") == 0
    assert verdicts.count("not_improved") > 130


def test_a_method_below_chance_among_baselines_below_chance_is_harmful():
    assert _judge(_arm("fine_tune", 0.3), _arm("linear_probe", 0.45, seed=1), CHANCE).verdict == "harmful"


def test_lost_classes_are_named_with_their_figures():
    labels = np.repeat([0, 1, 2], [20, 20, 3])
    base = np.ones(43)
    ours = base.copy()
    ours[:6] = 0  # six of twenty of `a`
    ours[20] = 0  # one of `b`: chance
    ours[40:] = 0  # all of `c`, which has but three
    arms = [Contender(name, right(hits), right(hits)) for name, hits in (("fine_tune", ours), ("linear_probe", base))]
    found = lost(*arms, "classification", labels, ["a", "b", "c"])
    assert [(change.name, change.support, change.baseline, change.method) for change in found] == [("a", 20, 1.0, 0.7)]


def test_lost_classes_of_a_multi_label_model():
    truth = np.zeros((12, 2), dtype=np.float32)
    truth[:8, 0] = truth[4:, 1] = 1
    good = np.where(truth > 0, 3.0, -3.0)
    bad = good.copy()
    bad[:5, 0] = -1
    arms = [
        Contender(name, answers("multi_label", logits, truth), answers("multi_label", logits, truth))
        for name, logits in (("fine_tune", bad), ("linear_probe", good))
    ]
    found = lost(*arms, "multi_label", truth, ["sea", "sky"])
    assert [(change.name, change.support, change.baseline, change.method) for change in found] == [
        ("sea", 8, 1.0, 0.375)
    ]


def test_the_sentence_says_figures_items_and_how_many_are_missing():
    found = _judge(_arm("fine_tune", 0.9), _arm("linear_probe", 0.88, seed=1), CHANCE)
    assert "200 held-out items" in found.sentence
    assert "90.0 % right answers against 88.0 %" in found.sentence
    assert "would be needed" in found.sentence
    assert "a linear probe of the frozen base model" in found.sentence


def test_a_regression_is_judged_by_its_errors():
    source = rng(2)
    values = source.normal(size=(150, 1))

    def arm(name, noise, *, constant=False):
        said = np.zeros_like(values) if constant else values + noise * source.normal(size=values.shape)
        found = answers("regression", said, values)
        return Contender(name, found, found, constant)

    arms = [arm("fine_tune", 0.2), arm("linear_probe", 0.6), arm("mean", 0, constant=True)]
    found = judge(arms[0], arms[1:], "regression", values, [], rng=rng()).judgement
    assert (found.verdict, found.metric, found.baseline) == ("improved", "r2", "linear_probe")
    assert found.difference.test == "paired_bootstrap"
    assert found.lost_classes == []
