"""The model's README: what it is, what it was made from, how good it is and how to use it."""

from core.contract.models import ModelManifest
from core.contract.prepare import ImagePrepare
from core.contract.verdicts import Judgement

_USE = """```python
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

config = json.load(open("manifest.json"))["prepare"]
image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
side = int(config["size"] / config["crop"])  # resize the short side, then cut out the centre
image = image.resize([max(side, round(side * length / min(image.size))) for length in image.size], {resampling})
left, top = ((length - config["size"]) // 2 for length in image.size)
image = image.crop((left, top, left + config["size"], top + config["size"]))
x = (np.asarray(image, np.float32) / 255 - np.float32(config["mean"])) / np.float32(config["std"])
session = onnxruntime.InferenceSession("model.onnx")
probabilities = session.run(["probabilities"], {{"image": x.transpose(2, 0, 1)[None]}})[0][0]
print(json.load(open("manifest.json"))["classes"][probabilities.argmax()], probabilities.max())
```"""


def usage(manifest: ModelManifest) -> list[str]:
    """How to use the model's graph, as lines of Markdown."""
    if not isinstance(manifest.prepare, ImagePrepare):
        return []
    size = manifest.prepare.size
    return [
        "## How to use it",
        "",
        f"`model.onnx` takes `image`, float32 (N, 3, {size}, {size}), and gives `probabilities` (calibrated: "
        f"softmax of logits / {manifest.temperature:.4g}), `logits` and `embedding`.",
        "",
        _USE.format(resampling=f"Image.Resampling.{manifest.prepare.interpolation.upper()}"),
        "",
        "`model.safetensors` holds the same weights under PyTorch's names (`backbone.*`, `head.*`).",
    ]


def write(manifest: ModelManifest, notes: list[str]) -> str:
    """The card in Markdown."""
    return "\n".join(
        [
            f"# {manifest.model_id}",
            "",
            f"Tells {len(manifest.classes)} classes apart: {_classes(manifest.classes)}.",
            f"Made by `{manifest.method.get('name')}` from `{manifest.base_model}` in {manifest.seconds:.1f} s.",
            "",
            *_verdict(manifest.judgement),
            "## How good it is",
            "",
            *_figures(manifest),
            *(f"- {note}" for note in notes),
            "",
            *usage(manifest),
            "",
            "## What it was made from",
            "",
            f"- Base model: {' <- '.join(manifest.lineage) or manifest.base_model}; licence of its weights: "
            f"{manifest.licence}.",
            *_learnt(manifest),
            *(
                f"- {use.role.capitalize()} data set `{use.dataset_id}`: {use.items} items "
                f"({', '.join(f'{split} {count}' for split, count in use.splits.items())}), "
                f"manifest SHA-256 `{use.manifest_sha256}`, content SHA-256 `{use.content_sha256}`."
                for use in manifest.data
            ),
            f"- Options: {_table(manifest.method)}. Seed {manifest.seed}.",
            "- Parity of ONNX and PyTorch: largest difference of a probability "
            f"{manifest.parity.max_abs_difference:.1e} on {manifest.parity.items} real items "
            f"(at most {manifest.parity.tolerance:.0e} is allowed).",
            f"- Versions: {_table(manifest.versions)}.",
            f"- Hardware: {_table(manifest.hardware)}.",
            f"- Made at {manifest.created_at:%Y-%m-%d %H:%M} UTC.",
            "",
        ]
    )


def _learnt(manifest: ModelManifest) -> list[str]:
    if not manifest.train_items:
        return ["- No labelled items: its parent's classes, adapted to items without labels."]
    return [f"- Trained on {manifest.train_items} items, validated on {manifest.validation_items}."]


def _figures(manifest: ModelManifest) -> list[str]:
    if not manifest.metrics:
        return []  # the notes say why
    return [
        f"On {manifest.held_out_items} held-out items that nothing was fitted on:",
        "",
        "| figure | value | 95 % interval |",
        "|---|---|---|",
        *(f"| {m.name} | {m.value:.4f} | {_interval(m.low, m.high)} |" for m in manifest.metrics),
        "",
    ]


def _verdict(judgement: Judgement | None) -> list[str]:
    if judgement is None:
        return []
    lost = ", ".join(f"`{change.name}`" for change in judgement.lost_classes)
    return [
        "## Whether the transfer helped",
        "",
        f"**{judgement.verdict.replace('_', ' ').capitalize()}.** {judgement.sentence}",
        f"The arm in this bundle is `{judgement.served}`." + (f" Classes that lost: {lost}." if lost else ""),
        "",
    ]


def _classes(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _table(values: dict[str, object] | dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
