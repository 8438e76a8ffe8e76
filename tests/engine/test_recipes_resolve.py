"""`auto`: nothing is left open, what was given is kept, and the data decide."""

import pytest
from pydantic import ValidationError

from core.catalogue import find
from core.contract.methods import FineTune
from core.contract.methods.fine_tune import misfit
from core.recipes import RULES, Facts, Settled, resolve

LITE = find("efficientnet_lite0")


def settle(facts=None, **options):
    given = {"modality": "image", "problem": "classification", "train_items": 500, "card": LITE} | (facts or {})
    return resolve(FineTune(**options), Facts(**given))


@pytest.mark.parametrize("modality", ["image", "text", "tabular"])
@pytest.mark.parametrize("problem", ["classification", "multi_label", "regression"])
@pytest.mark.parametrize("items", [2, 90, 1500, 200_000])
@pytest.mark.parametrize("init", ["pretrained", "scratch"])
def test_nothing_is_left_open_and_all_is_within_bounds(modality, problem, items, init):
    found, reasons = settle({"modality": modality, "problem": problem, "train_items": items}, init=init)
    assert isinstance(found, Settled)
    values = found.model_dump(mode="json")
    assert "auto" not in values.values()
    assert FineTune.model_validate(values) is not None
    assert all(reason.startswith("`") and reason.endswith(".") for reason in reasons)


def test_what_was_given_is_kept():
    given = {"epochs": 7, "batch_size": 4, "head_lr": 0.5, "ema": None, "early_stop": None, "augmentation": "standard"}
    found, reasons = settle(**given)
    assert {name: getattr(found, name) for name in given} == given
    assert not any(f"`{name}`" in reason for name in given for reason in reasons)


def test_every_option_that_may_be_auto_has_a_rule():
    named = {name for name, field in FineTune.model_fields.items() if field.default == "auto"}
    assert named == set(RULES)
    with pytest.raises(ValidationError):
        Settled.model_validate(dict(FineTune()))


def test_easy_tasks_move_the_weights_less():
    easy, usual, hard = (settle({"probe": score})[0] for score in (0.99, 0.9, 0.6))
    assert easy.backbone_lr < usual.backbone_lr < hard.backbone_lr
    assert (easy.augmentation, usual.augmentation) == ("light", "standard")
    assert easy.layer_decay < usual.layer_decay == 1.0


def test_a_head_starts_small_where_the_features_have_to_move():
    def scale(probe=0.8, problem="classification", **options):
        return settle({"probe": probe, "problem": problem}, **options)[0].head_scale

    assert scale() == 0.1
    assert scale(0.99) == 1, "the features do the task already"
    assert scale(None) == scale(freeze="all") == scale(init="scratch") == scale(head_start=False) == 1
    assert scale(problem="regression") == 1, "a smaller head says something else there"
    assert settle({"probe": 0.8, "modality": "tabular"})[0].head_scale == 1
    assert scale(head_scale=0.7) == 0.7


def test_a_small_head_learns_as_fast_as_a_fresh_one():
    def rate(probe=0.8, **options):
        return settle({"probe": probe}, **options)[0].head_lr

    assert rate() == rate(head_start=False) == 10 * rate(0.99) == 10 * rate(head_scale=1.0)


@pytest.mark.parametrize(("counts", "expected"), [((100, 10), "none"), ((101, 10), "balanced"), ((101, 0), "none")])
def test_classes_are_weighed_where_they_are_uneven(counts, expected):
    assert settle({"class_counts": counts})[0].class_weights == expected


def test_statistics_are_kept_still_where_they_are_needed_or_items_are_few():
    def norms(items, **options):
        return settle({"train_items": items}, **options)[0].batch_norm

    assert norms(5000) == "frozen", "the head was fitted to features made with them"
    assert norms(999, head_start=False) == "frozen"
    assert norms(5000, head_start=False, batch_size=16) == "frozen"
    assert norms(1000, head_start=False) == "train"
    assert norms(50, init="scratch") == "train"


def test_low_rank_additions_are_for_large_text_networks():
    large = LITE.model_copy(update={"parameters": 300_000_000})
    found, _ = settle({"modality": "text", "card": large})
    assert (found.lora_rank, found.lora_alpha) == (16, 32.0)
    assert settle({"modality": "text"})[0].lora_rank is None
    assert settle({"card": large})[0].lora_rank is None


def test_all_gpus_are_used_where_there_are_batches_for_them():
    gpu = {"device": "cuda", "gpus": 8, "train_items": 50_000}
    assert settle(gpu)[0].devices == 8
    assert settle(gpu, batch_size=16)[0].devices == 2
    assert settle({"gpus": 8})[0].devices == 1


@pytest.mark.parametrize(
    ("options", "modality", "field"),
    [
        ({"lora_rank": 8}, "image", "lora_rank"),
        ({"lora_rank": 8}, "tabular", "lora_rank"),
        ({"augmentation": "light"}, "text", "augmentation"),
        ({"init": "scratch", "wise_ft": 0.5}, "image", "wise_ft"),
        ({"init": "scratch", "freeze": "all"}, "image", "freeze"),
        ({"init": "scratch", "lora_rank": 8}, "text", "lora_rank"),
    ],
)
def test_what_does_not_go_together_is_named(options, modality, field):
    found = misfit(FineTune(**options), modality)
    assert found is not None
    assert found.field == field
    assert found.hint


def test_what_goes_together_is_let_through():
    assert misfit(FineTune(lora_rank=8), "text") is None
    assert misfit(FineTune(augmentation="rand_augment", mixup=0.2, wise_ft="auto"), "image") is None
