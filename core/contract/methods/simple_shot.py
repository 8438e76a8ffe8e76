"""Options of `simple_shot`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.episodic import Episodic


class SimpleShot(Episodic):
    """Class means of the frozen base model's features: nothing is trained, and it is what training has to beat."""

    title: ClassVar[str] = "SimpleShot"
    summary: ClassVar[str] = "Centres the frozen base model's features, scales them to length one, takes class means."
    when: ClassVar[str] = "First, with one to five items a class: new classes are added to the model in under a second."
    paper: ClassVar[str] = (
        "Wang, Chao, Weinberger, van der Maaten: SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot "
        "Learning. arXiv 2019"
    )

    name: Literal["simple_shot"] = "simple_shot"
    transductive: Literal["none", "bd_cspn", "tim"] = Field(
        default="none",
        description="Also measure with all items asked about known at once: `bd_cspn` (Liu, Song, Qin: Prototype "
        "Rectification, ECCV 2020) moves the means, `tim` (Boudiaf et al.: Transductive Information Maximization, "
        "NeurIPS 2020) makes answers sure and classes equally frequent. It helps where classes come in equal numbers.",
    )
