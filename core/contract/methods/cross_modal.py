"""Options of `cross_modal`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from core.contract.methods.common import LabelSpace, MethodOptions, Shift

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=256)]


class CrossModal(MethodOptions):
    """An image encoder and a text encoder, aligned on pairs, so that names of classes answer images."""

    title: ClassVar[str] = "Cross-modal alignment"
    summary: ClassVar[str] = (
        "Learns from pairs of text and image how the features of one read in the other, and answers items of the "
        "target by the names of the classes: also by names of which no item is paired."
    )
    when: ClassVar[str] = (
        "Source and target are texts and images (or texts and rows), and some are pairs: an image and a row of texts "
        "whose column `file_name` names it. The more different the captions, the better names are understood that "
        "are in none."
    )
    paper: ClassVar[str] = (
        "Frome et al.: DeViSE: A deep visual-semantic embedding model, NeurIPS 2013; Merullo et al.: Linearly mapping "
        "from image to text space, ICLR 2023; Radford et al.: Learning transferable visual models from natural "
        "language supervision, ICML 2021"
    )
    adapts: ClassVar[bool] = True
    heterogeneous: ClassVar[bool] = True
    label_spaces: ClassVar[tuple[LabelSpace, ...]] = ("closed", "partial")
    shifts: ClassVar[tuple[Shift, ...]] = ("general",)

    name: Literal["cross_modal"] = "cross_modal"
    class_names: Annotated[list[Words], Field(min_length=2, max_length=2000)] | Literal["auto"] = Field(
        default="auto",
        description="Words for the source's classes, in their order, where their own names say little (`n02084071`); "
        "`auto` takes the names.",
    )
    template: str = Field(
        default="a photo of a {}",
        pattern=r"^[^{}]*\{\}[^{}]*$",
        max_length=256,
        description="The sentence that a class's name is put into, at `{}`; it should read like the texts.",
    )
    prototypes: Literal["auto", "names", "examples", "both"] = Field(
        default="auto",
        description="What stands for a class: its name, the mean of the source's items that have its label, or the "
        "mean of both. `auto` takes what answers pairs best that were left out; both where none is labelled.",
    )
    regularisation: Annotated[float, Field(gt=0, le=1e6)] | Literal["auto"] = Field(
        default="auto",
        description="Penalty of the map from target to source features, relative to their variance; `auto` takes the "
        "one under which items find their partner best, with all pairs left out that say the same.",
    )
