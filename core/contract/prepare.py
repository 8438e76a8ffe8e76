"""How an item becomes a network's inputs. Training and prediction share one configuration and one function."""

from typing import Annotated, Literal

from pydantic import Field

from core.contract.base import Record, Sha256


class ImagePrepare(Record):
    """Resize so that the crop covers `crop` of the short side (or squash), centre-crop to `size`, scale, normalise."""

    kind: Literal["image"] = "image"
    size: int = Field(ge=8, le=1024, description="Height and width of the input in pixels.")
    crop: float = Field(default=0.875, gt=0, le=1, description="Share of the resized short side that is kept.")
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class TextPrepare(Record):
    """Tokenise with the base model's own tokenizer, cut at `max_tokens`."""

    kind: Literal["text"] = "text"
    max_tokens: int = Field(default=128, ge=8, le=8192, description="Longer texts are cut, special tokens included.")
    tokenizer_sha256: Sha256 | None = Field(
        default=None, description="SHA-256 of `tokenizer.json`, which stands beside the weights and in each bundle."
    )


class NumberColumn(Record):
    """A number (a date as days since 1970, a boolean as 0 or 1): z = `(x - mean) / scale`; missing is 0, and is told.

    The figure is `z / sqrt(1 + (z / limit)^2)`, which never goes beyond the limit.
    """

    name: str
    kind: Literal["number", "date", "boolean"] = "number"
    part: Literal["value", "year_sin", "year_cos", "week_sin", "week_cos", "day_sin", "day_cos"] = Field(
        default="value", description="Of a date: the days since 1970, or where it stands in its year, week or day."
    )
    mean: float = Field(description="The centre: the training rows' median, or mean.")
    scale: float = Field(gt=0)
    limit: float = Field(default=3.0, gt=0, description="Largest size of the figure.")


class CategoryColumn(Record):
    """A category by its number in `values`, counted from 1; 0 is a missing or unknown one."""

    name: str
    values: list[str]


class TabularPrepare(Record):
    """Standardise numbers, number categories; made from the training rows alone.

    Inputs: `numbers` (n, 2 * len(numbers)), the standardised figures and then for each whether it was missing, and
    `categories` (n, len(categories)), int64.
    """

    kind: Literal["tabular"] = "tabular"
    numbers: list[NumberColumn] = []
    categories: list[CategoryColumn] = []
    ignored: list[str] = Field(default=[], description="Columns that the table has and nothing is learnt from.")
    rows: int = Field(default=0, ge=0, description="Rows it was made from.")


Prepare = Annotated[ImagePrepare | TextPrepare | TabularPrepare, Field(discriminator="kind")]
