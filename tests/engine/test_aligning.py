"""The methods that bring both domains into one space, as they are served: heads that answer new items."""

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from core.contract.errors import JobError
from core.contract.methods import Coral, Jda, KernelCca, LinearOt, Meda, SinkhornOt, SubspaceAlignment, Tca
from worker.engine.methods import coral, jda, kernel_cca, linear_ot, meda, sinkhorn_ot, subspace_alignment, tca
from worker.engine.methods.adapting import Domains
from worker.engine.methods.aligning import behind, classifier, lengths, through
from worker.engine.partners import paired

MOVED = {
    "subspace_alignment": (subspace_alignment, SubspaceAlignment(axes=4)),
    "coral": (coral, Coral(regularisation=0.01)),
    "linear_ot": (linear_ot, LinearOt(regularisation=0.01)),
    "sinkhorn_ot": (sinkhorn_ot, SinkhornOt()),
}
MARKED = {
    "tca": (tca, Tca(axes=4)),
    "tca, rbf": (tca, Tca(axes=6, kernel="rbf", landmarks=100)),
    "jda": (jda, Jda(axes=4)),
    "meda": (meda, Meda(axes=4)),
}
WIDTH = 12


def domains(*, marked, seed=0):
    """Three classes and 150 items a domain; the other camera turns and moves all its items, or marks them."""
    rng = np.random.default_rng(seed)
    ys, truth = (rng.permutation(np.arange(150) % 3) for _ in range(2))
    centres = np.zeros((3, WIDTH))
    centres[0, 2], centres[1, 0], centres[2, 1] = 3, 7, 4  # not alike, or nobody could say which is which
    source, target = (centres[labels] + 1 + 0.8 * rng.normal(size=(150, WIDTH)) for labels in (ys, truth))
    if marked:
        source[:, 5] = 2 * (ys == 1) + 0.3 * rng.normal(size=150)  # what a classifier of the source leans on
        target[:, 5] = 2 * (truth == 1) + 0.3 * rng.normal(size=150) + 15
    else:
        slope = 0.1 * rng.normal(size=(WIDTH, WIDTH))
        target = target @ expm(slope - slope.T) * 0.8 + np.linspace(3, 0, WIDTH)
    return Domains(source.astype(np.float32), ys, target.astype(np.float32), np.full(150, -1), 3, [], []), truth


def right(head, x, labels):
    return (head(x).argmax(axis=1) == labels).mean()


def source_only(found, how, modality="tabular"):
    first = lengths(modality)
    return behind(first, classifier(through(found.xs, first), found.ys, found.classes, how, np.random.default_rng(0)))


@pytest.mark.parametrize("how", ["linear", "nearest"])
@pytest.mark.parametrize("name", [*MOVED, *MARKED])
def test_it_beats_the_source_alone(name, how):
    found, truth = domains(marked=name in MARKED)
    method, options = (MOVED | MARKED)[name]
    made = method.fit(found, options.model_copy(update={"classifier": how}), np.random.default_rng(0), "tabular")
    alone = right(source_only(found, how), found.xt, truth)
    assert right(made.head, found.xt, truth) > alone + 0.05
    assert right(made.source_head, found.xs, found.ys) > 0.9


@pytest.mark.parametrize("name", [*MOVED, *MARKED])
def test_a_new_item_alone_is_answered_in_torch_as_in_numpy(name):
    found, _ = domains(marked=name in MARKED)
    method, options = (MOVED | MARKED)[name]
    made = method.fit(found, options, np.random.default_rng(0))
    new = domains(marked=name in MARKED, seed=5)[0].xt
    answers = made.head(new)
    np.testing.assert_allclose(made.head(new[3:4]), answers[3:4], rtol=1e-3, atol=1e-3 * np.abs(answers).max())
    with torch.no_grad():
        twin = made.head.as_module()(torch.from_numpy(new)).numpy()
    np.testing.assert_allclose(twin, answers, rtol=1e-3, atol=1e-3 * np.abs(answers).max())


@pytest.mark.parametrize("name", [*MOVED, *MARKED])
def test_the_same_seed_gives_the_same_head(name):
    found, _ = domains(marked=name in MARKED)
    method, options = (MOVED | MARKED)[name]
    one, other = (method.fit(found, options, np.random.default_rng(7)).head.tensors() for _ in range(2))
    for key, tensor in one.items():
        np.testing.assert_array_equal(tensor, other[key])


def test_a_plan_that_could_not_be_found_is_told():
    found, _ = domains(marked=False)
    made = sinkhorn_ot.fit(found, SinkhornOt(regularisation=1e-5), np.random.default_rng(0), "tabular")
    assert "raised to" in made.notes[0]


# --- pairs of different kinds


def views(pairs=60, n=240, *, seed=0):
    """One thing seen by two sensors: `pairs` items by both, the others by one of them."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(2 * n) % 3)
    hidden = np.eye(3)[labels] * 3 + rng.normal(size=(2 * n, 3)) * 0.7
    first = np.tanh(hidden @ rng.normal(size=(3, 8))) + 0.1 * rng.normal(size=(2 * n, 8))
    second = np.sin(hidden @ rng.normal(size=(3, 20)) * 0.5) + 0.1 * rng.normal(size=(2 * n, 20))
    rows = np.r_[np.arange(pairs), np.arange(n, 2 * n - pairs)]
    found = Domains(
        first[:n].astype(np.float32),
        labels[:n],
        second[rows].astype(np.float32),
        np.full(n, -1),
        3,
        [f"class{labels[i]}/{i:04}.jpg" for i in range(n)],
        [f"infrared/{i:04}.png" for i in rows],
    )
    return found, labels[rows]


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_pairs_carry_a_classifier_over_to_another_kind_of_features(kernel):
    found, truth = views()
    made = kernel_cca.fit(found, KernelCca(kernel=kernel, landmarks=100), np.random.default_rng(0))
    assert right(made.head, found.xt[60:], truth[60:]) > 0.85
    assert right(made.source_head, found.xs, found.ys) > 0.85
    assert made.options["pairs"] == 60
    assert ("width" in made.options) == (kernel == "rbf")
    assert "60 pairs" in made.notes[0]


def test_pairs_that_are_none_carry_nothing():
    found, truth = views()
    names = list(np.random.default_rng(0).permutation(found.target_names[:60])) + found.target_names[60:]
    wrong = Domains(found.xs, found.ys, found.xt, found.audit, 3, found.source_names, names)
    made = kernel_cca.fit(wrong, KernelCca(kernel="linear"), np.random.default_rng(0))
    assert right(made.head, found.xt[60:], truth[60:]) < 0.6


def test_pairs_are_named_alike_but_for_folder_and_suffix():
    ours = ["cat/a.jpg", "cat/b.jpg", "dog/c.jpg", "dog/d.jpg", "cat/d.jpg"]
    theirs = ["new/c.png", "x.png", "a", "d.png", "b.png", "more/b.png"]
    np.testing.assert_array_equal(paired(ours, theirs), [[0, 2], [2, 0]])  # d and b are there twice
    assert paired(ours, []).shape == (0, 2)


def test_too_few_pairs_are_refused_with_what_needs_none():
    found, _ = views(pairs=9)
    with pytest.raises(JobError) as caught:
        kernel_cca.fit(found, KernelCca(), np.random.default_rng(0))
    assert (caught.value.code, caught.value.param) == ("too_few_pairs", "target")
    assert "9 items" in str(caught.value)
    assert "`coral`" in (caught.value.hint or "")
