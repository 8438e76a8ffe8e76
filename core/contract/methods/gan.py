"""Options of `gan`."""

from typing import ClassVar, Literal

from pydantic import Field

from core.contract.methods.deep import Auto, DeepAdaptation, Weight


class Gan(DeepAdaptation):
    """A generator makes target-like items of labelled source items; the classifier learns from both."""

    title: ClassVar[str] = "Generated target data (GAN)"
    summary: ClassVar[str] = (
        "Makes target-like data, with labels, of source data by a GAN, and trains the classifier on both."
    )
    when: ClassVar[str] = (
        "To see or to keep what the target would look like with labels; on a CPU in the space of features."
    )
    paper: ClassVar[str] = (
        "Bousmalis, Silberman, Dohan, Erhan, Krishnan: Unsupervised Pixel-Level Domain Adaptation with Generative "
        "Adversarial Networks. CVPR 2017; in feature space Volpi, Morerio, Savarese, Murino: Adversarial Feature "
        "Augmentation. CVPR 2018"
    )

    name: Literal["gan"] = "gan"
    space: Literal["features", "pixels"] | Auto = Field(
        default="auto",
        description="What is generated: embeddings (seconds to minutes on a CPU) or images. `auto`: images of up to 64 "
        "pixels where there is a GPU, else embeddings.",
    )
    generator: int = Field(
        default=256, ge=8, le=4096, description="Width of the generator's and discriminator's layers."
    )
    noise: int = Field(default=16, ge=1, le=1024, description="Length of the generator's random input.")
    weight: Weight = Field(default=1.0, description="How much generated items count beside the source's own.")
    near: Weight = Field(
        default=5.0,
        description="How much it costs to take a generated item away from its source item (mean squared difference).",
    )
    entropy: Weight = Field(
        default=0.1,
        description="How much unsure answers to target items cost (Shu, Bui, Narui, Ermon: DIRT-T, ICLR 2018).",
    )
