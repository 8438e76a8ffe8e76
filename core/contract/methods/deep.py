"""Options that the deep methods of domain adaptation share."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import MethodOptions, Shift

Auto = Literal["auto"]
BatchNorm = Literal["frozen", "domain", "shared"]
Augmentation = Literal["none", "light", "standard", "affine"]
Rate = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1000)]
Weight = Annotated[float, Field(ge=0, le=1000)]


class DeepAdaptation(MethodOptions):
    """Gradient training on labelled source and unlabelled target items at once.

    `auto` leaves an option to the data, the base model and the device; what became of it stands in the manifest.
    """

    adapts: ClassVar[bool] = True
    trains_network: ClassVar[bool] = True
    shifts: ClassVar[tuple[Shift, ...]] = ("conditional", "general")

    init: Literal["pretrained", "scratch"] = Field(
        default="pretrained",
        description="`scratch` starts from random weights; a base model without pretrained ones always does.",
    )
    freeze: Annotated[str, Field(max_length=64)] = Field(
        default="auto",
        description="`none`, `all` (bottleneck and classifier alone, on cached features: seconds), or a stage's name: "
        "everything up to and with it stays frozen. `auto`: `all` on a CPU with pretrained weights, else `none`.",
    )
    epochs: Count | Auto = Field(default="auto", description="Passes over the source's training split, at most.")
    source_epochs: Annotated[int, Field(ge=0, le=1000)] | Auto = Field(
        default="auto", description="How many of these, the first ones, learn from the source alone."
    )
    batch_size: Annotated[int, Field(ge=4, le=1024)] | Auto = Field(
        default="auto", description="Source items in one step, and as many target items."
    )
    bottleneck: Annotated[int, Field(ge=2, le=4096)] = Field(
        default=256, description="Width of the layer before the classifier, in which the domains are aligned."
    )
    head_lr: Rate | Auto = Field(default="auto", description="Peak learning rate of all but the base model (AdamW).")
    backbone_lr: Rate | Auto = Field(
        default="auto", description="Peak learning rate of the base model; from scratch `head_lr` holds for all."
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] | Auto = Field(
        default="auto", description="Decoupled weight decay; not on biases and norms."
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="Probability mass spread over the other classes (Szegedy et al., CVPR 2016)."
    )
    augmentation: Augmentation | Auto = Field(
        default="auto",
        description="Of images of both domains: `light` and `standard` as in `fine_tune`; `affine`: small turns, "
        "shifts and changes of size, for signs and small pictures. `auto`: `affine` up to 64 pixels, else `standard`; "
        "none where the base model is frozen.",
    )
    horizontal_flip: bool = Field(default=True, description="Turn off where left and right differ, as with digits.")
    batch_norm: BatchNorm | Auto = Field(
        default="auto",
        description="Statistics of BatchNorms: `domain`: each domain its own, the target's are served (Chang et al.: "
        "Domain-Specific Batch Normalization, CVPR 2019); `shared`: of both together; `frozen`: the base model's. "
        "`auto`: `domain` from scratch or with at least 1,000 items in each domain and batches of 32, else `frozen`.",
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | Auto | None = Field(
        default="auto",
        description="Decay of a moving average of the weights, which is scored beside them and served where it is "
        "better (Tarvainen, Valpola: Mean teachers, NeurIPS 2017); null keeps none.",
    )
    early_stop: Count | None = Field(
        default=None, description="Stop after so many epochs without a better score on unlabelled data; null never."
    )
    mixed_precision: bool = Field(default=True, description="Automatic mixed precision, where there is a GPU.")


class Aligned(DeepAdaptation):
    """Those whose loss has a part that pulls the domains together."""

    weight: Weight = Field(default=1.0, description="How much the loss between the domains counts beside the task's.")
