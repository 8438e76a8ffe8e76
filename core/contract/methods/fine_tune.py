"""Options of `fine_tune`."""

from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field

from core.contract.datasets import Modality
from core.contract.methods.common import MethodOptions

Auto = Literal["auto"]
Augmentation = Literal["none", "light", "standard", "rand_augment"]
Rate = Annotated[float, Field(ge=0, le=10)]
PositiveRate = Annotated[float, Field(gt=0, le=10)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(gt=0, le=1)]


class FineTune(MethodOptions):
    """Gradient training of the head and, as far as wanted, of the base model.

    `auto` leaves an option to the data: its number of items, modality and problem, the base model and the device. What
    became of it is told in the event `resolved`, and stands in the job and in the model's manifest.
    """

    title: ClassVar[str] = "Fine-tuning"
    summary: ClassVar[str] = "Trains the network by gradient descent, from a base model or from scratch (pretraining)."
    when: ClassVar[str] = "With some hundred labelled items or more, or where the linear probe is not good enough."
    paper: ClassVar[str] = (
        "Yosinski, Clune, Bengio, Lipson: How transferable are features in deep neural networks? NeurIPS 2014"
    )
    trains_network: ClassVar[bool] = True

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
        description="Start the head from a linear probe on cached features (LP-FT; Kumar, Raghunathan, Jones, Ma, "
        "Liang: Fine-Tuning can Distort Pretrained Features, ICLR 2022), and serve a plain linear probe if training is "
        "not better on validation by more than one standard error; ignored from scratch.",
    )
    head_scale: Annotated[float, Field(gt=0, le=1)] | Auto = Field(
        default="auto",
        description="Share of the probe's weights that the head starts with. A small head makes the features move, a "
        "large one keeps them (Chizat, Oyallon, Bach: On Lazy Training in Differentiable Programming, NeurIPS 2019; "
        "Tomihari, Sato: Understanding LP-FT, NeurIPS 2024). `auto` is 0.1 for classes of texts and images that "
        "frozen features do not tell well, else 1.",
    )
    epochs: Annotated[int, Field(ge=1, le=1000)] | Auto = Field(
        default="auto", description="Passes over the training split, at most."
    )
    batch_size: Annotated[int, Field(ge=2, le=1024)] | Auto = Field(
        default="auto", description="Items in one step; texts stand with others of about their length."
    )
    optimiser: Literal["adamw", "sgd"] = Field(
        default="adamw",
        description="AdamW (Loshchilov, Hutter: Decoupled Weight Decay Regularization, ICLR 2019), or SGD with "
        "Nesterov momentum 0.9.",
    )
    head_lr: PositiveRate | Auto = Field(
        default="auto",
        description="Peak learning rate of the head; `auto` is lower for one that starts with more than a tenth of a "
        "probe's weights.",
    )
    backbone_lr: Rate | Auto = Field(
        default="auto",
        description="Peak learning rate of the base model (of its last stage, where `layer_decay` is below 1); from "
        "scratch `head_lr` holds for all.",
    )
    layer_decay: Decay | Auto = Field(
        default="auto",
        description="Layer-wise learning-rate decay: each stage learns at the rate of the one after it times this; 1 "
        "turns it off (Howard, Ruder: ULMFiT, ACL 2018; Clark et al.: ELECTRA, ICLR 2020). From scratch it is 1.",
    )
    gradual_unfreezing: bool = Field(
        default=False,
        description="Begin with the head alone and let one more stage learn from each epoch on, the last one first, so "
        "that all do by half the epochs (Howard, Ruder: ULMFiT, ACL 2018).",
    )
    lora_rank: Annotated[int, Field(ge=1, le=256)] | Auto | None = Field(
        default="auto",
        description="Train low-rank additions to a text network's attention in place of its weights, and merge them in "
        "the end; null trains the weights themselves (Hu et al.: LoRA, ICLR 2022). Text only.",
    )
    lora_alpha: Annotated[float, Field(gt=0, le=1024)] | Auto = Field(
        default="auto", description="The additions count this divided by `lora_rank` times; used with LoRA alone."
    )
    weight_decay: Share | Auto = Field(default="auto", description="Decoupled weight decay; not on biases and norms.")
    l2_sp: Rate = Field(
        default=0.0,
        description="Penalty on the squared distance of the base model's weights from those it started with, half of "
        "it times this (Li, Grandvalet, Davoine: Explicit Inductive Bias for Transfer Learning, ICML 2018); 0 turns it "
        "off. From scratch it does nothing.",
    )
    warmup: Annotated[float, Field(ge=0, le=0.9)] | Auto = Field(
        default="auto",
        description="Share of the steps with a rising rate; then cosine to zero (Loshchilov, Hutter: SGDR, ICLR 2017).",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] | Auto = Field(
        default="auto",
        description="Probability mass spread over the other classes (Szegedy et al., CVPR 2016); not for regression.",
    )
    class_weights: Literal["none", "balanced"] | Auto = Field(
        default="auto",
        description="`balanced` weighs classes inversely to their frequency (King, Zeng, 2001); `auto` does so where "
        "the largest class has more than ten times the items of the smallest. Not for regression.",
    )
    augmentation: Augmentation | Auto = Field(
        default="auto",
        description="Of images: `light`: shift and small crop; `standard`: random resized crop, horizontal flip, "
        "colour jitter; `rand_augment`: standard with two random operations of RandAugment in place of the jitter "
        "(Cubuk, Zoph, Shlens, Le, NeurIPS 2020). Texts and rows stay as they are.",
    )
    horizontal_flip: bool = Field(default=True, description="Turn off where left and right differ, as with digits.")
    mixup: Annotated[float, Field(ge=0, le=10)] | Auto = Field(
        default="auto",
        description="Train on mixtures of two items and of their labels, in shares drawn from Beta(mixup, mixup) "
        "(Zhang, Cisse, Dauphin, Lopez-Paz: mixup, ICLR 2018); 0 turns it off. Of texts it is the embeddings that are "
        "mixed, of rows too.",
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | Auto | None = Field(
        default="auto",
        description="Decay of a moving average of the weights, which is validated beside them and served where it is "
        "better; null keeps none (Polyak, Juditsky, 1992; Tarvainen, Valpola: Mean teachers, NeurIPS 2017).",
    )
    wise_ft: Share | Auto | None = Field(
        default=None,
        description="Serve weights between those at the start (0) and the trained ones (1): a share, or `auto` to "
        "choose it on validation (Wortsman et al.: Robust fine-tuning of zero-shot models, CVPR 2022); null does not.",
    )
    early_stop: Annotated[int, Field(ge=1, le=1000)] | Auto | None = Field(
        default="auto", description="Stop after so many epochs without a better validation loss; null never."
    )
    batch_norm: Literal["frozen", "train"] | Auto = Field(
        default="auto",
        description="Running statistics; `auto` freezes them with a head start, under 1,000 items or a batch of 32.",
    )
    mixed_precision: bool = Field(
        default=True,
        description="Automatic mixed precision: on a GPU, and for text encoders on a CPU that multiplies bfloat16.",
    )
    devices: Annotated[int, Field(ge=1, le=64)] | Auto = Field(
        default="auto",
        description="GPUs of the worker's machine to train on at once, each with its part of every batch; `auto` takes "
        "all that are visible where the worker uses one at all. On a CPU: processes, and `auto` is 1.",
    )


class Misfit(NamedTuple):
    """An option that cannot be: which, why, and what to do."""

    field: str
    message: str
    hint: str


def misfit(options: FineTune, modality: Modality) -> Misfit | None:
    """What of the options does not go together, or not with data of that modality."""
    scratch = options.init == "scratch"
    if isinstance(options.lora_rank, int) and modality != "text":
        hint = "Leave `lora_rank` out, or set it to null."
        return Misfit("lora_rank", f"LoRA trains text networks; the base model is for {modality} data.", hint)
    if isinstance(options.lora_rank, int) and scratch:
        return Misfit("lora_rank", "LoRA adds to pretrained weights; from scratch there are none.", "Set it to null.")
    if options.augmentation not in {"auto", "none"} and modality != "image":
        hint = "Leave `augmentation` out; `mixup` is for all modalities."
        return Misfit("augmentation", f"Images can be augmented; the base model is for {modality} data.", hint)
    if options.wise_ft is not None and scratch:
        return Misfit("wise_ft", "Random weights are no start to go back to.", "Leave `wise_ft` out.")
    if scratch and options.freeze != "none":
        hint = "Set `freeze` to `none`, or `init` to `pretrained`."
        return Misfit("freeze", "A network that starts from random weights cannot be frozen.", hint)
    return None
