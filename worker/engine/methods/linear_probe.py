"""`linear_probe`: a linear classifier on frozen features, fitted to its optimum in milliseconds.

Kornblith, Shlens, Le: Do Better ImageNet Models Transfer Better? CVPR 2019. The penalty is chosen on the training items
alone: exact leave-one-out for `ridge`, stratified cross-validation along a warm-started path for `lbfgs`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from core.contract.datasets import Modality, Problem
from core.contract.errors import JobError
from core.contract.methods import LinearProbe
from core.contract.reports import CurvePoint
from worker.engine.calibration import fit_temperature
from worker.engine.devices import allotted
from worker.engine.heads import Head, Normalise
from worker.engine.loop import Validation
from worker.engine.methods.maths import logistic, ridge
from worker.engine.methods.maths.folds import balanced_weights, stratified_folds
from worker.engine.metrics import Ints
from worker.engine.problems import Targets, item_scores, one_hot, score
from worker.engine.stages import EPSILON
from worker.engine.task import Task, Trained

Floats = NDArray[np.float32]
_DECADES = np.arange(-1.5, -6.6, -1.0)  # log10 of the penalty, relative to the features' mean square
_FALLBACK = -3.0
_LOGISTIC_ROWS = 20_000
_SCORES = 4_000_000  # leave-one-out scores held in memory at a time
_CROSS_VALIDATION, _FINAL = 1e-2, 1e-4  # how exactly problems are solved


@dataclass(frozen=True)
class Fitted:
    """A probe and how it was found."""

    head: Head
    penalty: float
    out_of_fold: Floats
    """Logits (n, C) that each training item gets from a fit without it; NaN where there is none."""
    curve: list[CurvePoint] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Control:
    """How a running fit is told to end: `check` may raise, `stop` says that the best so far will do."""

    check: Callable[[], None] = lambda: None
    stop: Callable[[], bool] = lambda: False
    progress: Callable[[float], None] = lambda _fraction: None


def fit(
    features: Floats,
    labels: Targets,
    classes: int,
    options: LinearProbe,
    *,
    rng: np.random.Generator,
    problem: Problem = "classification",
    modality: Modality = "image",
    control: Control | None = None,
    importance: NDArray[np.float64] | None = None,
) -> Fitted:
    """Fit a probe on features (n, D) and targets (`worker.engine.problems`); every class needs an item.

    `classes` is the number of outputs. `importance` (n,), of mean 1, says how much each item counts, in the fit as in
    the choice of the penalty (Sugiyama, Krauledat, Mueller: Covariate Shift Adaptation by Importance Weighted Cross
    Validation, JMLR 2007). Raises `JobError` `features_not_finite` if a feature is not a number,
    `invalid_options` if the solver cannot do what the labels ask for.
    """
    how = settled(options, problem, modality, len(labels))
    if problem != "classification" and (how.solver != "ridge" or options.class_weights):
        raise JobError(
            f"Logistic regression and class weights are for one class an item; this is {problem}.",
            code="invalid_options",
            param="method.solver" if how.solver != "ridge" else "method.class_weights",
            hint="Take the solver `ridge`, without class weights.",
        )
    if not np.isfinite(features).all():
        raise JobError(
            "Some features of the base model are not finite.",
            code="features_not_finite",
            hint="Choose another base model; the weights of this one may be damaged.",
        )
    x, mean, scale = normalised(features, how.normalise)
    weights = balanced_weights(labels, classes) if options.class_weights else np.ones(len(labels))
    weights = weights if importance is None else weights * importance
    data = _Data(x, labels, classes, weights, problem, importance)
    solver = _fit_ridge if how.solver == "ridge" else _fit_logistic
    # BLAS threads spin while they wait: with none to spare, one busy neighbour makes them ten times slower.
    with threadpool_limits(max(1, allotted() // 2), user_api="blas"):
        found = solver(data, options.regularisation, rng, control or Control())
    head = Head(found.weight.astype(np.float32), found.bias.astype(np.float32), how.normalise, mean, scale)
    return Fitted(head, found.penalty, found.out_of_fold.astype(np.float32), found.curve, found.notes)


@dataclass(frozen=True)
class Settled:
    """What `auto` became."""

    solver: Literal["ridge", "lbfgs"]
    normalise: Normalise


def settled(options: LinearProbe, problem: Problem, modality: Modality, items: int) -> Settled:
    """Solver and normalisation as the data want them, where they were left open.

    On five tables logistic regression was right on 1 to 3 points more than ridge, and scaling rows to length one cost
    up to 3 points; on image and text features it is the other way round.
    """
    table = modality == "tabular"
    logistic_suits = table and problem == "classification" and items <= _LOGISTIC_ROWS
    return Settled(
        ("lbfgs" if logistic_suits else "ridge") if options.solver == "auto" else options.solver,
        ("none" if table else "l2") if options.normalise == "auto" else options.normalise,
    )


def run(task: Task) -> Trained:
    """Fit on the features of training and validation items: penalty and temperature are found by cross-validation."""
    options = task.options
    assert isinstance(options, LinearProbe)
    data = task.data.merged()
    train = data.train
    control = Control(task.wishes.check, task.wishes.stop, lambda share: task.steps.progress("train", share))
    features = task.features(train)
    modality = data.source.modality
    how = settled(options, data.problem, modality, len(train.labels))
    fitted = fit(
        features,
        train.labels,
        data.outputs,
        options,
        rng=task.rng(),
        problem=data.problem,
        modality=modality,
        control=control,
    )
    for point in fitted.curve:
        task.sink("metric", {"log10_regularisation": point.x, **_figures(point)})
    return Trained(
        data,
        fitted.head,
        out_of_fold=fitted.out_of_fold,
        axis="log10_regularisation",
        curve=fitted.curve,
        options={"solver": how.solver, "normalise": how.normalise, "regularisation": fitted.penalty},
        notes=[*fitted.notes, *_story(fitted, how.solver, options, len(task.data.validation))],
    )


def _figures(point: CurvePoint) -> dict[str, float]:
    return {name: value for name, value in point.model_dump(exclude={"x"}).items() if value is not None}


def _story(fitted: Fitted, solver: str, options: LinearProbe, validation: int) -> list[str]:
    how = "exact leave-one-out" if solver == "ridge" else "stratified cross-validation"
    notes = []
    if validation:
        notes.append(
            f"A linear probe validates itself by {how}, so the {validation} validation items are trained on too."
        )
    if options.regularisation == "auto" and fitted.curve:
        notes.append(
            f"The regularisation, {fitted.penalty:.2g}, was chosen by {how}; no held-out item had a part in it."
        )
    return notes


def normalised(features: Floats, how: str) -> tuple[Floats, Floats | None, Floats | None]:
    """Features (n, D) as the head will see them, with the mean and scale (D,) that `standardise` takes."""
    if how == "l2":
        length = np.linalg.norm(features, axis=1, keepdims=True)
        return features / np.maximum(length, np.float32(EPSILON)), None, None
    if how == "none":
        return features, None, None
    mean, spread = features.mean(axis=0), features.std(axis=0)
    # A feature that (nearly) never moves says nothing; blown up, it would say nonsense about the next item.
    scale: Floats = np.maximum(spread, max(1e-3 * float(spread.mean()), 1e-6)).astype(np.float32)
    return (features - mean) / scale, mean, scale


@dataclass(frozen=True)
class _Data:
    x: Floats
    labels: Targets
    classes: int
    weights: NDArray[np.float64]
    problem: Problem
    importance: NDArray[np.float64] | None

    def score(self, logits: NDArray[np.floating]) -> float:
        """How well the items were answered, those that count for more first."""
        if self.importance is None:
            return score(self.problem, logits, self.labels)
        return float(np.average(item_scores(self.problem, logits, self.labels), weights=self.importance))


@dataclass(frozen=True)
class _Found:
    weight: NDArray[np.floating]
    bias: NDArray[np.floating]
    penalty: float
    out_of_fold: NDArray[np.floating]
    curve: list[CurvePoint]
    notes: list[str]


def _fit_ridge(data: _Data, penalty: float | str, _rng: np.random.Generator, control: Control) -> _Found:
    targets, problem = one_hot(data.problem, data.labels, data.classes), data.problem
    threshold = 0.5 if problem == "multi_label" else 0.0  # scores of 0 and 1 become logits below and above 0
    parts = ridge.decompose(data.x, targets, data.weights)
    grid = ridge.penalty_grid(parts) if isinstance(penalty, str) else np.array([max(penalty, 1e-12)])
    best: tuple[tuple[float, float], float, NDArray[np.float64]] | None = None
    curve: list[CurvePoint] = []
    together = max(1, _SCORES // targets.size)
    for start in range(0, len(grid), together):
        control.check()
        block = grid[start : start + together]
        for candidate, held_out in zip(block, ridge.leave_one_out(parts, block), strict=True):
            found = data.score(held_out - threshold)
            loss = float(np.average(((held_out - targets) ** 2).sum(axis=1), weights=data.importance))
            curve.append(Validation(loss, found, problem).point(math.log10(candidate)))
            # Where some items count for many, few others tell by how many are right.
            rank = (-found, loss) if data.importance is None else (loss, -found)
            if best is None or rank < best[0]:
                best = rank, float(candidate), held_out - threshold
        control.progress(len(curve) / len(grid))
        if control.stop():
            break
    assert best is not None
    weight, bias = ridge.solve(parts, best[1])
    # Scores of a regression are no logits: their scale is set by the leave-one-out scores, which no fit has seen.
    temperature = fit_temperature(best[2], data.labels, problem)
    return _Found(
        weight / temperature, (bias - threshold) / temperature, best[1], best[2] / temperature, curve[::-1], []
    )


def _fit_logistic(data: _Data, penalty: float | str, rng: np.random.Generator, control: Control) -> _Found:
    basis = logistic.rotate(data.x)
    path = _Path(data, basis, rng, control)
    if isinstance(penalty, str):
        scale = float(basis.variance.sum()) or 1.0
        best = path.search(scale) if path.scored.any() else _FALLBACK + math.log10(scale)
    else:
        best = math.log10(max(penalty, 1e-12))
        path.visit(best)
    start = path.solutions[best].mean(axis=1, keepdims=True) if best in path.solutions else path.zeros(1)
    share = (data.weights / data.weights.sum()).astype(data.x.dtype)[:, None]
    solution = logistic.minimise(
        basis, data.labels, share, start, 10**best, tolerance=_FINAL, iterations=500, check=control.check
    )
    weight, bias = logistic.unrotate(basis, solution[:, 0])
    notes = [] if path.scored.any() else ["Every class has a single training item: the regularisation is a default."]
    out_of_fold = path.held_out.get(best, np.full((len(data.x), data.classes), np.nan))
    return _Found(weight, bias, 10**best, out_of_fold, [path.points[x] for x in sorted(path.points)], notes)


class _Path:
    """Cross-validated logistic regressions by log10 of the penalty, each started from the last one's solution."""

    def __init__(self, data: _Data, basis: logistic.Basis, rng: np.random.Generator, control: Control) -> None:
        self.data, self.basis, self.control = data, basis, control
        size = len(data.x) * data.classes
        folds = 5 if size <= 50_000 else 3
        fold = stratified_folds(data.labels, folds, rng)
        if size > 1_000_000:  # one held-out third tells enough
            fold, folds = np.where(fold == 0, 0, -1), 1
        self.fold = fold
        self.scored = fold >= 0
        mask = (fold[:, None] != np.arange(folds)) * data.weights[:, None]
        self.mask = (mask / mask.sum(axis=0)).astype(data.x.dtype)
        self.solutions: dict[float, NDArray[np.floating]] = {}
        self.held_out: dict[float, NDArray[np.floating]] = {}
        self.points: dict[float, CurvePoint] = {}

    def zeros(self, problems: int) -> NDArray[np.floating]:
        """A solution that knows nothing."""
        return np.zeros((self.basis.z.shape[1] + 1, problems, self.data.classes), dtype=self.data.x.dtype)

    def search(self, scale: float) -> float:
        """Walk down the decades until it gets worse, then look half a decade to both sides of the best."""
        for number, relative in enumerate(_DECADES):
            self.visit(float(relative) + math.log10(scale))
            self.control.progress((number + 1) / (len(_DECADES) + 2))
            losses = [self.loss(x) for x in self.points]
            if self.control.stop() or (len(losses) > 2 and min(losses[-2:]) > min(losses)):
                break
        best = min(self.points, key=self.loss)
        for x in (best + 0.5, best - 0.5):
            if not self.control.stop():
                self.visit(x, start=best)
        return min(self.points, key=self.loss)

    def loss(self, x: float) -> float:
        """Cross-validated loss at log10 penalty `x`."""
        return self.points[x].validation_loss or 0.0

    def visit(self, x: float, start: float | None = None) -> None:
        """Cross-validate at log10 penalty `x`."""
        start = start if start is not None else next(reversed(self.solutions), None)
        begin = self.zeros(self.mask.shape[1]) if start is None else self.solutions[start]
        solution = logistic.minimise(
            self.basis, self.data.labels, self.mask, begin, 10**x, tolerance=_CROSS_VALIDATION, check=self.control.check
        )
        self.solutions[x] = solution
        self._score(x, logistic.logits(self.basis.z, solution))

    def _score(self, x: float, logits: NDArray[np.floating]) -> None:
        scored, labels = self.scored, self.data.labels
        own = logits[np.arange(len(labels)), np.maximum(self.fold, 0)]
        weights = self.data.weights
        self.held_out[x] = np.where(scored[:, None], own, np.nan)
        if not scored.any():
            return
        right = own[scored].argmax(axis=1) == labels[scored]
        self.points[x] = CurvePoint(
            x=x,
            train_loss=_mean_training_loss(logits, labels, self.mask),
            validation_loss=float(np.average(_losses(own[scored], labels[scored]), weights=weights[scored])),
            validation_accuracy=float(right.mean()),
        )


def _losses(logits: NDArray[np.floating], labels: Ints) -> NDArray[np.float64]:
    """Cross entropy of each item, (n,)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(shifted).sum(axis=1))
    return np.asarray(total - shifted[np.arange(len(labels)), labels])


def _mean_training_loss(logits: NDArray[np.floating], labels: Ints, mask: NDArray[np.floating]) -> float:
    problems = range(logits.shape[1])
    return float(np.mean([_losses(logits[:, f], labels) @ mask[:, f] for f in problems]))
