"""What a job may be made of: methods and base models."""

from typing import Any

from graft.types.base import Resource


class MethodCard(Resource):
    """A method in the menu; `options` is the JSON Schema of its options.

    `needs_target` and `takes_target`: whether a job must, or may, name data of a new domain; `label_spaces` says which
    classes these may have of the source's (`closed`: all, `partial`: some), `shifts` which kinds of shift it is for.
    `needs_source`: whether a job must name a source; where not, a classifier of your own can be its base model.
    `episodic`: whether it is measured on few-shot episodes of classes that nothing was trained on.
    """

    name: str
    object: str = "method"
    title: str
    summary: str
    when: str = ""
    paper: str = ""
    needs_labels: bool = True
    episodic: bool = False
    needs_target: bool = False
    takes_target: bool = False
    needs_source: bool = True
    label_spaces: list[str] = []
    shifts: list[str] = []
    options: dict[str, Any] = {}


class BaseModelCard(Resource):
    """A pretrained network in the catalogue."""

    id: str
    object: str = "base_model"
    title: str
    modality: str = "image"
    builder: str = ""
    architecture: str = ""
    width: int | None = None
    parameters: int | None = None
    stages: list[str] = []
    prepare: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    licence: str = ""
    pretrained_on: str = ""
    paper: str = ""
    top1: float | None = None
    note: str = ""
    config: dict[str, Any] = {}
