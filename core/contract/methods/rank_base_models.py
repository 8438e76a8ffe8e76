"""Options of `rank_base_models`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from core.contract.methods.common import MethodOptions

BaseModelName = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class RankBaseModels(MethodOptions):
    """Measures how well base models suit the data, without training any of them."""

    title: ClassVar[str] = "Ranking of base models"
    summary: ClassVar[str] = (
        "Ranks base models for the data by a cross-validated linear probe and nearest neighbours on their frozen "
        "features, LogME where these cannot tell, with H-score, seconds and memory; makes a report and no model."
    )
    when: ClassVar[str] = "Before the first long training on new data: a better base model is worth more than a method."
    paper: ClassVar[str] = (
        "You, Liu, Wang, Long: LogME: Practical Assessment of Pre-trained Models for Transfer Learning. ICML 2021; "
        "Renggli et al.: Which Model to Transfer? Finding the Needle in the Growing Haystack. CVPR 2022"
    )
    takes_base_model: ClassVar[bool] = False
    makes_model: ClassVar[bool] = False

    name: Literal["rank_base_models"] = "rank_base_models"
    base_models: Annotated[list[BaseModelName], Field(min_length=1, max_length=100)] | Literal["all"] = Field(
        default="all",
        description="Cards' ids, `timm:<name>`, `hf:<name>` or your own models (`mdl_…`); `all`: every card of the "
        "data's modality whose weights are on the worker's machine.",
    )
    max_items: int = Field(
        default=1000,
        ge=10,
        le=100_000,
        description="Training items that are looked at, at most; classes keep their shares. A data set of up to twice "
        "as many items is embedded whole, so that the next job on it finds its features.",
    )
    neighbours: int = Field(default=5, ge=1, le=100, description="Nearest neighbours that are asked for each item.")
    folds: Annotated[int, Field(ge=2, le=50)] | None = Field(
        default=None,
        description="Folds of the probe's cross-validation, its penalty chosen anew in each; null: exact "
        "leave-one-out, which costs a single fit.",
    )
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        le=30 * 24 * 3600,
        description="After so many seconds no further base model is looked at; the rest is listed as skipped.",
    )
