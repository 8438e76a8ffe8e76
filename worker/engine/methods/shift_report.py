"""The shift between two domains as a report tells it: measured on features, before and after adaptation.

n source and m target items, D features. More than `max_items` of a side are sampled.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.contract.errors import JobError
from core.contract.shifts import ClassShift, Cloud, Driver, LabelShift, Shift, ShiftAfter, ShiftTest, Spot
from worker.engine.methods import shift_words
from worker.engine.methods.maths import shift, shift_classes

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
FEWEST = 3
"""Items a side without which nothing can be measured."""
_FOLDS = 5
_AXES = 128
_DRAWN = 400
_DRIVERS = 10


@dataclass(frozen=True)
class Sides:
    """Source and target items."""

    xs: Floats
    """Source features (n, D)."""
    ys: Ints | None
    """Classes of the source items (n,); None where they have none, as in a regression."""
    xt: Floats
    """Target features (m, D)."""
    classes: list[str]
    source_names: list[str]
    target_names: list[str]


@dataclass(frozen=True)
class Settings:
    """How it is measured; as the options of `domain_shift`."""

    max_items: int = 1000
    permutations: int = 500
    level: float = 0.05


def measure(
    sides: Sides,
    rng: np.random.Generator,
    settings: Settings | None = None,
    *,
    after: tuple[Floats, Floats] | None = None,
) -> Shift:
    """Measure the shift; `after` are the same items (n, K), (m, K) as the adapted classifier represents them.

    Raises `JobError` `too_few_items` with fewer than three items on a side.
    """
    settings = settings or Settings()
    for side, count in (("source", len(sides.xs)), ("target", len(sides.xt))):
        if count < FEWEST:
            raise JobError(
                f"The {side} has {count} items: too few to tell a shift from chance.",
                code="too_few_items",
                param=side,
                hint=f"It takes {FEWEST} at least; some dozens tell more.",
            )
    chosen = [_sample(len(x), settings.max_items, rng) for x in (sides.xs, sides.xt)]
    sides = _taken(sides, *chosen)
    look = _look(sides.xs, sides.xt, settings.permutations, rng)
    classed = _classes(sides, look, settings.permutations, rng)
    kind = shift_words.kind(look.mmd, look.told, classed, settings.level)
    found = Shift(
        kind=kind,
        size=shift_words.size(look.told, classed, kind),
        sentence="",
        methods=shift_words.methods(kind),
        tests=look.tests(),
        level=settings.level,
        permutations=settings.permutations,
        source_items=len(sides.xs),
        target_items=len(sides.xt),
        overlap=look.told.overlap,
        labels=classed.labels if classed else None,
        classes=classed.rows if classed else [],
        common=classed.common if classed else None,
        drivers=[] if kind == "none" else _drivers(sides, look.told.logit),
        before=_cloud(look, sides.ys, classed.pseudo if classed else None, rng),
    )
    if after is not None:
        kept = (after[0][chosen[0]], after[1][chosen[1]])
        found = found.model_copy(update={"after": _after(kept, sides, settings.permutations, rng)})
    return found.model_copy(update={"sentence": shift_words.sentence(found)})


def _sample(count: int, most: int, rng: np.random.Generator) -> Ints:
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))


def _taken(sides: Sides, source: Ints, target: Ints) -> Sides:
    return replace(
        sides,
        xs=sides.xs[source],
        ys=None if sides.ys is None or len(sides.classes) < 2 else sides.ys[source],
        xt=sides.xt[target],
        source_names=[sides.source_names[place] for place in source],
        target_names=[sides.target_names[place] for place in target],
    )


@dataclass(frozen=True)
class _Look:
    """Both domains compared in one space."""

    n: int
    kernel: Floats
    mmd: shift.Tested
    z: Floats
    """Source items, then target items, on their principal axes, (n + m, r)."""
    shown: float
    """Share of the spread on the first two of these."""
    told: shift.Told

    def tests(self) -> list[ShiftTest]:
        """In the contract's words."""
        pairs = (("mmd", self.mmd), ("classifier", self.told.tested))
        return [
            ShiftTest.model_validate(
                {
                    "name": name,
                    "statistic": found.statistic,
                    "effect": found.effect,
                    "low": found.low,
                    "high": found.high,
                    "p_value": found.p_value,
                }
            )
            for name, found in pairs
        ]


def _look(xs: Floats, xt: Floats, permutations: int, rng: np.random.Generator) -> _Look:
    n, m = len(xs), len(xt)
    x = np.concatenate([xs, xt])
    fold = shift.folds(n, m, _FOLDS, rng)
    member = shift.memberships(n, m, fold, permutations, rng)
    kernel = shift.gram(x)
    z = shift.axes(x, min(_AXES, max(2, (n + m) // 4)), rng)
    spread = float(np.square(x - x.mean(axis=0), dtype=np.float64).sum())
    shown = min(1.0, float(np.square(z[:, :2], dtype=np.float64).sum()) / spread) if spread > 0 else 1.0
    return _Look(n, kernel, shift.mmd(kernel, member), z, shown, shift.classifier(z, member, fold))


@dataclass(frozen=True)
class Classed:
    """What the shift does to the classes."""

    labels: LabelShift
    remains: float
    """The squared discrepancy that is left once the class shares are made alike."""
    rows: list[ClassShift]
    common: float
    pseudo: Ints


def _classes(sides: Sides, look: _Look, permutations: int, rng: np.random.Generator) -> Classed | None:
    """Class by class; None where the source has no classes."""
    if sides.ys is None:
        return None
    count, source, target = len(sides.classes), look.z[: look.n], look.z[look.n :]
    guessed = shift_classes.guess(source, sides.ys, target, count, rng)
    priors = shift_classes.priors(sides.ys, guessed, count, permutations, rng)
    ratio = priors.target / np.maximum(priors.source, 1e-12)
    remains = shift_classes.reweighted_mmd(look.kernel, ratio[sides.ys])
    found = look.mmd.statistic
    explained = float(np.clip(1 - remains / found, 0, 1)) if found > look.mmd.null else None
    moved = shift_classes.moves(source, sides.ys, target, guessed.target, count)
    seen = [np.bincount(found, minlength=count) for found in (sides.ys, guessed.target)]
    rows = [
        ClassShift(
            name=name,
            source_items=int(seen[0][number]),
            target_items=int(seen[1][number]),
            source_share=float(priors.source[number]),
            target_share=float(priors.target[number]),
            distance=float(moved.distance[number]) if np.isfinite(moved.distance[number]) else None,
        )
        for number, name in enumerate(sides.classes)
    ]
    labels = LabelShift(
        distance=priors.distance,
        low=priors.low,
        high=priors.high,
        p_value=priors.p_value,
        explained=explained,
    )
    return Classed(labels, remains, rows, moved.common, guessed.target)


def _after(after: tuple[Floats, Floats], sides: Sides, permutations: int, rng: np.random.Generator) -> ShiftAfter:
    """The same tests and picture of the adapted representation."""
    look = _look(*after, permutations, rng)
    pseudo = None
    if sides.ys is not None:
        pseudo = shift_classes.guess(look.z[: look.n], sides.ys, look.z[look.n :], len(sides.classes), rng).target
    return ShiftAfter(tests=look.tests(), cloud=_cloud(look, sides.ys, pseudo, rng))


def _cloud(look: _Look, ys: Ints | None, pseudo: Ints | None, rng: np.random.Generator) -> Cloud:
    """Both domains on the first two axes, in units of the first one's spread."""
    plane = np.zeros((len(look.z), 2))
    plane[:, : look.z.shape[1]] = look.z[:, :2]
    plane /= float(plane[:, 0].std()) or 1.0
    return Cloud(
        source=_spots(plane[: look.n], ys, rng), target=_spots(plane[look.n :], pseudo, rng), explained=look.shown
    )


def _spots(plane: NDArray[np.float64], classes: Ints | None, rng: np.random.Generator) -> list[Spot]:
    chosen = _sample(len(plane), _DRAWN, rng)
    numbers = np.full(len(plane), -1) if classes is None else classes
    return [
        (round(float(x), 3), round(float(y), 3), int(c))
        for (x, y), c in zip(plane[chosen], numbers[chosen], strict=True)
    ]


def _drivers(sides: Sides, logit: NDArray[np.float64]) -> list[Driver]:
    """Items that the classifier which tells the domains is surest of."""
    n = len(sides.xs)
    found: list[Driver] = []
    for domain, names, sure in (("target", sides.target_names, logit[n:]), ("source", sides.source_names, -logit[:n])):
        for place in np.argsort(-sure, kind="stable")[:_DRIVERS]:
            probability = float(1 / (1 + np.exp(-np.clip(sure[place], -50, 50))))
            found.append(Driver.model_validate({"name": names[place], "domain": domain, "probability": probability}))
    return found
