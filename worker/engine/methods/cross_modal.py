"""`cross_modal`: an image encoder and a text encoder aligned on pairs, so that names of classes answer images.

Frome et al., DeViSE, NeurIPS 2013; Merullo et al., ICLR 2023; Radford et al., ICML 2021. Source (n, D) and target
(m, E) are features of frozen encoders, one of them of texts; p items of the target have a partner of the same name in
the source. A linear map takes target features to source features; there each class has a vector (C, D), made of its
name, of the source's items with its label, or of both, and the nearest by cosine answers. No target label has a part
in it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.contract.datasets import Modality
from core.contract.errors import JobError
from core.contract.methods import CrossModal
from worker.engine.calibration import calibrated_nll, fit_temperature
from worker.engine.data import Items, JobData
from worker.engine.datasets import listed
from worker.engine.heads import Head
from worker.engine.methods.adapting import names, target_items
from worker.engine.methods.aligning import lengths, through
from worker.engine.methods.kernel_cca import FEWEST
from worker.engine.methods.maths.crossing import Crossing, cross, favour, unit
from worker.engine.partners import paired
from worker.engine.sentences import embed_texts
from worker.engine.stages import Affine, Stage, Unit
from worker.engine.task import Task, Trained

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
_KINDS: tuple[Literal["both", "names", "examples"], ...] = ("both", "names", "examples")
_SHARPNESS = 20.0
"""What cosines are multiplied by, where no pair is left to tell."""


@dataclass(frozen=True)
class Pairs:
    """Items of two kinds, those that are one thing, and what the classes are called."""

    xs: Floats
    """Source features (n, D)."""
    ys: Ints
    """Their classes (n,); -1 where there is none."""
    xt: Floats
    """Target features (m, E)."""
    rows: Ints
    """Source and target items that are pairs, (p, 2)."""
    alike: Ints
    """Number of each source item's content (n,): items with the same one are equal."""
    named: Floats
    """Features of the classes' names (C, D), or (C, E) where the target is the one of texts."""
    modalities: tuple[Modality, Modality]
    """Of source and target; one of them is `text`."""


@dataclass(frozen=True)
class Crossed:
    """What came of them."""

    head: Head
    on_source: Head
    known: Floats
    """Logits (n, C) of source items as their partners get them from a map without this pair; NaN where none is."""
    options: dict[str, object]
    notes: list[str]


def run(task: Task) -> Trained:
    """Align two frozen encoders."""
    options, target = task.options, target_items(task)
    assert isinstance(options, CrossModal)
    modalities = task.data.source.modality, target.collection.manifest.modality
    _check(modalities, options, task.data.classes)
    merged, features = task.data.merged(), task.features
    learnt = _with_unlabelled(merged)
    text = features.base if modalities[0] == "text" else features.target
    task.wishes.check()
    pairs = Pairs(
        features(learnt),
        learnt.labels,
        features(target),
        paired(names(learnt), names(target)),
        _contents(learnt),
        embed_texts(text, sentences(task.data.classes, options), features.cache),
        modalities,
    )
    found = fit(pairs, options, task.data.classes, task.rng())
    known = found.known[: len(merged.train)]
    return Trained(
        merged, found.head, out_of_fold=known, options=found.options, on_source=found.on_source, notes=found.notes
    )


def sentences(classes: list[str], options: CrossModal) -> list[str]:
    """What is said of each class."""
    words = classes if options.class_names == "auto" else options.class_names
    return [options.template.replace("{}", word.replace("_", " ")) for word in words]


def fit(pairs: Pairs, options: CrossModal, classes: list[str], rng: np.random.Generator) -> Crossed:
    """On arrays. Raises `JobError` `too_few_pairs`."""
    if len(pairs.rows) < FEWEST:
        raise _too_few(len(pairs.rows))
    first = lengths(pairs.modalities[0]), lengths(pairs.modalities[1])
    xs, xt = (through(x, way).astype(np.float64) for x, way in zip((pairs.xs, pairs.xt), first, strict=True))
    ours, theirs = pairs.rows.T
    partner = np.unique(pairs.alike[ours], return_inverse=True)[1]
    penalty = None if options.regularisation == "auto" else options.regularisation
    map_ = cross(xt[theirs], xs[ours], partner, penalty, rng)
    truth = pairs.ys[ours]
    kinds, alone = _prototypes(xs, pairs, map_, first), unit(map_.without(np.arange(len(ours))) - map_.centre)
    kind = _kind(kinds, alone[truth >= 0], truth[truth >= 0], options)
    cosines, unpaired = alone @ kinds[kind].T, ~np.isin(np.arange(len(classes)), truth)
    like = (unit(xs[ours] - map_.centre) @ kinds[kind].T).argmax(axis=1)
    more = _favour(map_, kinds[kind], truth, like, unpaired)
    sharp = _sharpness((cosines + more * unpaired)[truth >= 0], truth[truth >= 0])
    classwise, bias = sharp * kinds[kind], sharp * more * unpaired.astype(np.float64)
    known = np.full((len(xs), len(classes)), np.nan, dtype=np.float32)
    known[ours] = alone @ classwise.T + bias
    told: dict[str, object] = {"pairs": len(ours), "prototypes": kind, "regularisation": map_.penalty}
    return Crossed(
        _head(classwise, bias, (*first[1], _affine(map_.weight, map_.bias - map_.centre), Unit())),
        _head(classwise, np.zeros(len(bias)), (*first[0], _affine(np.eye(xs.shape[1]), -map_.centre), Unit())),
        known,
        told | {"found": round(map_.found, 4), "favour": more},
        _told(map_, partner, [name for name, absent in zip(classes, unpaired, strict=True) if absent]),
    )


def _favour(map_: Crossing, prototypes: Array, truth: Ints, like: Ints, unpaired: NDArray[np.bool_]) -> float:
    """What classes of which no pair has the label are given beforehand.

    A pair without a label leaves together with the class that its partner is `like`.
    """
    labelled = truth >= 0
    if not unpaired.any() or not labelled.any():
        return 0.0
    groups = np.arange(len(truth)), np.where(labelled, truth, like)
    seen, unseen = (unit(map_.without(group)[labelled] - map_.centre) @ prototypes.T for group in groups)
    return favour(seen, unseen, truth[labelled], unpaired)


def _prototypes(
    xs: Array, pairs: Pairs, map_: Crossing, first: tuple[tuple[Stage, ...], tuple[Stage, ...]]
) -> dict[str, Array]:
    """What may stand for the classes in the source's space, (C, D) each: of length one about their own mean."""
    texts = 0 if pairs.modalities[0] == "text" else 1
    named = through(pairs.named, first[texts]).astype(np.float64)
    if texts == 1:
        named = named @ map_.weight.T + map_.bias
    count = len(pairs.named)
    examples = np.stack([xs[pairs.ys == number].mean(axis=0) for number in range(count)])
    both = {kind: unit(rows - rows.mean(axis=0)) for kind, rows in (("names", named), ("examples", examples))}
    return both | {"both": unit(both["names"] + both["examples"])}


def _kind(kinds: dict[str, Array], alone: Array, truth: Ints, options: CrossModal) -> str:
    """Under which pairs are answered best that were left out; both, where none has a label."""
    if options.prototypes != "auto":
        return options.prototypes
    if not len(truth):
        return _KINDS[0]
    return min(_KINDS, key=lambda kind: calibrated_nll((alone @ kinds[kind].T).astype(np.float32), truth))


def _sharpness(cosines: Array, truth: Ints) -> float:
    """What cosines (p, C) are multiplied by, so that their softmax is as sure as it may be."""
    return _SHARPNESS if not len(truth) else 1 / fit_temperature(cosines.astype(np.float32), truth)


def _affine(weight: Array, bias: Array) -> Affine:
    return Affine(weight.astype(np.float32), bias.astype(np.float32))


def _head(classwise: Array, bias: Array, before: tuple[Stage, ...]) -> Head:
    return Head(classwise.astype(np.float32), bias.astype(np.float32), before=before)


def _with_unlabelled(data: JobData) -> Items:
    """What is learnt from, and the source's items without a label, which can be paired, too."""
    collection = data.train.collection
    items = collection.manifest.items
    more = [number for number, item in enumerate(items) if item.label is None]
    indices = np.concatenate([data.train.indices, np.array(more, dtype=np.int64)])
    return Items(collection, indices, np.concatenate([data.train.labels, np.full(len(more), -1)]))


def _contents(items: Items) -> Ints:
    digests = [items.collection.manifest.items[int(index)].sha256 for index in items.indices]
    return np.asarray(np.unique(digests, return_inverse=True)[1], dtype=np.int64)


def _check(modalities: tuple[Modality, Modality], options: CrossModal, classes: list[str]) -> None:
    if modalities.count("text") != 1:
        raise JobError(
            f"Source and target are {' and '.join(modalities)}; `cross_modal` aligns texts with something else.",
            code="texts_required",
            param="target",
            hint="Without texts nothing is known of the classes' names: take `kernel_cca` for other pairs.",
        )
    if options.class_names != "auto" and len(options.class_names) != len(classes):
        raise JobError(
            f"{len(options.class_names)} names are given for {len(classes)} classes.",
            code="class_names_differ",
            param="method.class_names",
            hint=f"Give one for each, in the order of the source's classes: {listed(classes)}.",
        )


def _too_few(pairs: int) -> JobError:
    return JobError(
        f"{pairs} items of the target are paired with one of the source; {FEWEST} are needed.",
        code="too_few_pairs",
        param="target",
        hint="Give the table of texts a column `file_name` with the names of the images, each once; folders and "
        "suffixes do not matter.",
    )


def _told(map_: Crossing, partner: Ints, unpaired: list[str]) -> list[str]:
    different = int(partner.max()) + 1
    said = [
        f"{len(partner)} pairs, {different} of them different on the source's side. When they are left out, the true "
        f"half of a pair stands at place {1 / map_.found:.1f} of {different} (harmonic mean; {1 / map_.chance:.1f} by "
        "chance)."
    ]
    if map_.found < 1.5 * map_.chance:
        said.append(
            "Names that are in none of the pairs are hardly understood: bring pairs that say more different things."
        )
    if unpaired:
        said.append(f"No pair has the label of {len(unpaired)} classes, e.g. {unpaired[0]!r}.")
    return said
