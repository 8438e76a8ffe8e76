"""Options of `fine_tune`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import MethodOptions


class FineTune(MethodOptions):
    """Gradient training of the head and, as far as wanted, of the base model."""

    title: ClassVar[str] = "Fine-tuning"
    summary: ClassVar[str] = "Trains the network by gradient descent, from a base model or from scratch (pretraining)."
    when: ClassVar[str] = "With some hundred labelled items or more, or where the linear probe is not good enough."
    paper: ClassVar[str] = (
        "Yosinski, Clune, Bengio, Lipson: How transferable are features in deep neural networks? NeurIPS 2014"
    )

    name: Literal["fine_tune"] = "fine_tune"
    init: Literal["pretrained", "scratch"] = Field(
        default="pretrained", description="`scratch` starts from random weights: pretraining on the user's own data."
    )
    freeze: str = Field(
        default="none",
        max_length=64,
        description="`none`, `all` (head only), or a stage's name: everything up to and with that stage stays frozen.",
    )
    head_start: bool = Field(
        default=True,
        description="Start the head from a linear probe on cached features (LP-FT, Kumar et al., ICLR 2022), and serve "
        "a plain linear probe if training does not beat it on validation; ignored from scratch.",
    )
    epochs: int = Field(default=10, ge=1, le=1000, description="Passes over the training split, at most.")
    batch_size: int = Field(default=32, ge=2, le=1024, description="Items in one step.")
    optimiser: Literal["adamw", "sgd"] = Field(default="adamw", description="SGD runs with Nesterov momentum 0.9.")
    head_lr: float = Field(default=1e-3, gt=0, le=10, description="Peak learning rate of the head.")
    backbone_lr: float = Field(
        default=1e-4,
        ge=0,
        le=10,
        description="Peak learning rate of the base model; from scratch `head_lr` holds for all.",
    )
    weight_decay: float = Field(
        default=0.01, ge=0, le=1, description="Decoupled weight decay; not on biases and norms."
    )
    warmup: float = Field(
        default=0.1, ge=0, le=0.9, description="Share of the steps with a rising rate; then cosine to zero."
    )
    label_smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="Probability mass spread over the other classes."
    )
    augmentation: Literal["none", "light", "standard"] = Field(
        default="standard",
        description="`light`: shift and small crop; `standard`: random resized crop, horizontal flip, colour jitter.",
    )
    horizontal_flip: bool = Field(default=True, description="Turn off where left and right differ, as with digits.")
    early_stop: int | None = Field(
        default=5, ge=1, le=1000, description="Stop after so many epochs without a better validation loss; null never."
    )
    batch_norm: Literal["frozen", "train", "auto"] = Field(
        default="auto",
        description="Running statistics; `auto` freezes them with a head start, under 1,000 items or a batch of 32.",
    )
    mixed_precision: bool = Field(default=True, description="Automatic mixed precision, where there is a GPU.")
