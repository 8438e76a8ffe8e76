"""Options of `adapt_few_shot`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from core.contract.methods.common import MethodOptions
from core.contract.methods.episodic import Auto


class AdaptFewShot(MethodOptions):
    """Makes a classifier from a few items of each class, as the base model was meta-trained to."""

    title: ClassVar[str] = "Adapt to a few items"
    summary: ClassVar[str] = "Makes a plain model from a few items of each class, by the start that was meta-learnt."
    when: ClassVar[str] = "With one to five items a class, and a meta-learnt model (`mdl_…`) as the base model."
    paper: ClassVar[str] = (
        "Finn, Abbeel, Levine: Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks. ICML 2017; Wang et "
        "al.: SimpleShot. arXiv 2019"
    )
    target_optional: ClassVar[bool] = True

    name: Literal["adapt_few_shot"] = "adapt_few_shot"
    how: Literal["auto", "inner_steps", "class_means", "ridge"] = Field(
        default="auto",
        description="`inner_steps`: gradient descent from a meta-learnt start, as MAML, ANIL, Reptile and Meta-SGD "
        "make one; `class_means`: SimpleShot; `ridge`: ridge regression. `auto`: what the base model was made for, "
        "else `class_means`.",
    )
    inner_steps: Annotated[int, Field(ge=1, le=1000)] | Auto = Field(
        default="auto", description="`auto`: as many as the base model was made for."
    )
    inner_lr: Annotated[float, Field(gt=0, le=100)] | Auto = Field(
        default="auto", description="`auto`: the one the base model was made for."
    )
    transductive: Literal["none", "bd_cspn", "tim"] = Field(
        default="none",
        description="With an unlabelled `target` of the same classes: `bd_cspn` moves the class means by it (Liu, "
        "Song, Qin, ECCV 2020), `tim` makes answers to it sure and classes equally frequent (Boudiaf et al., NeurIPS "
        "2020).",
    )
