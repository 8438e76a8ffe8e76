"""Options that methods share which learn, or are measured, by episodes: few-shot tasks drawn from labelled data."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import MethodOptions

Auto = Literal["auto"]
Ways = Annotated[int, Field(ge=2, le=100)]
Shots = Annotated[int, Field(ge=1, le=100)]
Rate = Annotated[float, Field(gt=0, le=1)]
ClassNames = Annotated[list[Annotated[str, Field(min_length=1, max_length=512)]], Field(min_length=2, max_length=5000)]


class Episodic(MethodOptions):
    """An N-way K-shot episode has N classes, K items of each to learn them from, and other items of them to ask about.

    Accuracies are measured on episodes of classes that nothing was trained on: those of the `evaluation` data set, or
    classes of the source that are held out. Which these are follows from the data set alone, whatever the seed.
    """

    episodic: ClassVar[bool] = True

    ways: Annotated[list[Ways], Field(min_length=1, max_length=5)] = Field(
        default=[5], description="Classes of an episode that is measured; each with each of `shots`."
    )
    shots: Annotated[list[Shots], Field(min_length=1, max_length=5)] = Field(
        default=[1, 5], description="Items of each class to learn from. The verdict rests on the first way and shot."
    )
    queries: Annotated[int, Field(ge=1, le=100)] = Field(
        default=15, description="Items of each class to ask about; fewer where a class has not so many."
    )
    episodes: Annotated[int, Field(ge=20, le=10_000)] = Field(
        default=600, description="Episodes of each way and shot that are measured."
    )
    test_classes: ClassNames | Auto = Field(
        default="auto",
        description="Classes of the source that are measured on and never trained on. `auto`: a quarter of them, by a "
        "hash of their names; whole groups of them where names are paths, as in `Greek/alpha`. Leave it out with an "
        "`evaluation` data set, whose classes are then all new.",
    )
    rotations: bool = Field(
        default=False,
        description="Of images: turned by 90, 180 and 270 degrees, a class makes three more (Santoro et al., ICML "
        "2016); for letters and signs. A network that is trained on pictures learns from their mirror images, too.",
    )


class MetaLearning(Episodic):
    """Training on episodes, so that new classes can be learnt from a few items.

    `auto` leaves an option to the data, the base model and the device; what became of it stands in the manifest.
    """

    init: Literal["pretrained", "scratch"] = Field(
        default="pretrained",
        description="`scratch` starts from random weights; a base model without pretrained ones always does.",
    )
    freeze: Annotated[str, Field(max_length=64)] | Auto = Field(
        default="auto",
        description="`none`; `all` (a layer on cached features of the frozen base model is trained: seconds); or a "
        "stage's name: everything up to and with it stays frozen. `auto`: `none` from scratch, else `all`.",
    )
    train_ways: Ways | Auto = Field(default="auto", description="Classes of an episode in training.")
    train_shots: Shots | Auto = Field(default="auto", description="Items of each to learn from, in training.")
    train_queries: Shots | Auto = Field(default="auto", description="Items of each to ask about, in training.")
    tasks: Annotated[int, Field(ge=1, le=64)] | Auto = Field(default="auto", description="Episodes in one step.")
    steps: Annotated[int, Field(ge=1, le=200_000)] | Auto = Field(
        default="auto", description="Steps of gradient descent, at most; each on `tasks` episodes."
    )
    lr: Rate | Auto = Field(default="auto", description="Peak learning rate of training (Adam).")
    weight_decay: Annotated[float, Field(ge=0, le=1)] = Field(default=0.0, description="Decoupled weight decay.")
    augmentation: Literal["auto", "none", "affine"] = Field(
        default="auto",
        description="`affine`: small turns, shifts, bends and changes of size of images in training; with "
        "`rotations`, half of the episodes are of pairs of classes laid over one another. `auto`: `affine` where the "
        "network is trained on pictures of up to 64 pixels.",
    )
    early_stop: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=10,
        description="Stop after so many looks at validation classes (one each twentieth of `steps`) without a better "
        "loss; null never.",
    )
    mixed_precision: bool = Field(
        default=True,
        description="Automatic mixed precision: on a GPU, and for networks on a CPU that multiplies bfloat16.",
    )
