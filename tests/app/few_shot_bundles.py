"""Small real few-shot models of each kind: an embedder of the other test bundles, and a head over known vectors."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from core.contract.datasets import Modality
from core.contract.few_shot import FewShot, HeadKind
from core.contract.prepare import ImagePrepare, TextPrepare
from tests.app.bundles import COLOURS, Bundle, bundle_of, graph, manifest_of
from tests.app.modal_bundles import CITIES, TABLE, rows_graph, text_graph, tokenizer

Floats = NDArray[np.float32]
KINDS: list[HeadKind] = ["class_means", "items", "relation", "ridge"]
SCALE, PENALTY = 3.0, 0.1
DARK, BRIGHT = 20 / 127.5 - 1, 230 / 127.5 - 1
_VECTORS: dict[Modality, Floats] = {
    "image": np.where(np.eye(3), BRIGHT, DARK).astype(np.float32),
    "text": np.array([[4, 0], [0, 4], [2, 2]], np.float32),
    "tabular": np.array([[-1, 0, 0, 0, 1], [1, 0, 0, 0, 2], [0, 1, 0, 0, 0]], np.float32),
}
_NAMES: dict[Modality, list[str]] = {
    "image": COLOURS,
    "text": ["positive", "negative", "mixed"],
    "tabular": [*CITIES, "elsewhere"],
}
_CENTRE = 0.05


def known(modality: Modality = "image") -> tuple[Floats, NDArray[np.int64]]:
    """Inner vectors of the items that the classes are known by, two of each, and their classes."""
    vectors = _VECTORS[modality] - np.float32(_CENTRE)
    near = np.random.default_rng(1).normal(0, 0.05, vectors.shape).astype(np.float32)
    return np.concatenate([vectors, vectors + near]), np.tile(np.arange(len(vectors)), 2)


def head(kind: HeadKind, modality: Modality = "image") -> dict[str, Floats]:
    """The tensors of a head, by hand."""
    items, labels = known(modality)
    classes, width = int(labels.max()) + 1, items.shape[1]
    means = np.stack([items[labels == number].mean(axis=0) for number in range(classes)])
    member = np.eye(classes, dtype=np.float32)[labels]
    scale = SCALE if kind == "class_means" else 1.0
    found = {
        "head.before.0.mean": np.full(width, _CENTRE, np.float32),
        "head.weight": np.eye(classes, dtype=np.float32) * np.float32(scale),
        "head.bias": np.zeros(classes, np.float32),
    }
    if kind == "items":
        unit = items / np.linalg.norm(items, axis=1, keepdims=True)
        return found | {"head.before.1.items": unit, "head.before.1.member": member / member.sum(axis=0)}
    if kind == "ridge":
        return found | _ridge(items, member)
    if kind == "relation":
        rng = np.random.default_rng(0)
        names = ("item", "mean", "apart", "product")
        found |= {f"head.before.1.{name}": rng.normal(0, 1, (4, width)).astype(np.float32) for name in names}
        found |= {f"head.before.1.{name}": rng.normal(0, 1, 4).astype(np.float32) for name in ("bias", "out_weight")}
    return found | {"head.before.1.means": means}


def _ridge(items: Floats, member: Floats) -> dict[str, Floats]:
    x = np.concatenate([items, np.ones((len(items), 1), np.float32)], axis=1).astype(np.float64)
    held = x.T @ x + PENALTY * np.eye(x.shape[1])
    solved = SCALE * np.linalg.solve(held, x.T @ member).T
    made = {
        "head.weight": solved[:, :-1],
        "head.bias": solved[:, -1],
        "few_shot.gram": x.T @ x,
        "few_shot.sums": member.T @ x,
        "few_shot.penalty": np.array([PENALTY]),
        "few_shot.scale": np.array([SCALE]),
    }
    return {name: np.ascontiguousarray(part, dtype=np.float32) for name, part in made.items()}


def few_shot_bundle(
    kind: HeadKind = "class_means", modality: Modality = "image", *, least_logit: float | None = None, **said: Any
) -> Bundle:
    """A few-shot model that knows three classes by two items each."""
    tensors = head(kind, modality)
    fields: dict[str, Any] = {
        "modality": modality,
        "classes": _NAMES[modality],
        "output_names": ["probabilities", "logits", "embedding", "inner"],
        "temperature": 1.0,
        "few_shot": FewShot(kind=kind, scale=SCALE, counts=[2, 2, 2], least_logit=least_logit),
        "method": {"name": "simple_shot"},
        "prepare": ImagePrepare(size=32, crop=1.0, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    }
    more: dict[str, Any] = {
        "image": {},
        "text": {
            "prepare": TextPrepare(max_tokens=8),
            "input_names": ["input_ids", "attention_mask"],
            "base_model": "minilm_l6",
        },
        "tabular": {
            "prepare": TABLE,
            "input_names": ["numbers", "categories"],
            "base_model": "tabular_mlp",
            "target": "city",
        },
    }
    manifest = manifest_of(**fields | more[modality] | said)
    stored = {"backbone.bn.num_batches_tracked": np.array(7), "backbone.w": np.arange(5, dtype=np.float16), **tensors}
    files = {"model.safetensors": save(stored, metadata={"model_id": manifest.model_id, "temperature": "1.0"})}
    if modality == "text":
        files["tokenizer"] = tokenizer()
    return bundle_of(manifest, _graph(kind, modality, tensors), **files)


def _graph(kind: HeadKind, modality: Modality, tensors: dict[str, Floats]) -> bytes:
    """The embedder, cut off behind `embedding`, then the head's nodes."""
    made = {"image": graph, "text": text_graph, "tabular": rows_graph}[modality]
    model = onnx.load_from_string(made())
    nodes = list(model.graph.node)
    end = next(place for place, node in enumerate(nodes) if "embedding" in node.output)
    del model.graph.node[end + 1 :]
    used = {name for node in model.graph.node for name in node.input}
    for one in [one for one in model.graph.initializer if one.name not in used]:
        model.graph.initializer.remove(one)
    parts = {name: part for name, part in tensors.items() if name.startswith("head.")}
    parts |= {"axis": np.array([1]), "zero": np.array([0]), "less": np.array(-SCALE, np.float32)}
    model.graph.node.extend([_node("Sub", ["embedding", "head.before.0.mean"], "inner"), *_COMPARE[kind]()])
    model.graph.node.extend(
        [
            _node("Gemm", ["compared" if kind != "ridge" else "inner", "head.weight", "head.bias"], "logits", transB=1),
            _node("Softmax", ["logits"], "probabilities", axis=1),
        ]
    )
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(part, name) for name, part in parts.items() if name in used)
    classes, width = len(tensors["head.bias"]), len(tensors["head.before.0.mean"])
    del model.graph.output[:]
    sizes = {"probabilities": classes, "logits": classes, "embedding": width, "inner": width}
    for name, size in sizes.items():
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]))
    model.opset_import[0].version = 18
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, [output], **attributes)


def _by_means() -> list[Any]:
    return [
        _node("ReduceSumSquare", ["inner", "axis"], "own", keepdims=1),
        _node("ReduceSumSquare", ["head.before.1.means", "axis"], "theirs", keepdims=0),
        _node("Gemm", ["inner", "head.before.1.means", "theirs"], "cross", alpha=-2.0, transB=1),
        _node("Add", ["own", "cross"], "distance"),
        _node("Neg", ["distance"], "compared"),
    ]


def _by_items() -> list[Any]:
    return [
        _node("ReduceL2", ["inner", "axis"], "length", keepdims=1),
        _node("Div", ["inner", "length"], "unit"),
        _node("Gemm", ["unit", "head.before.1.items", "less"], "near", alpha=SCALE, transB=1),
        _node("Exp", ["near"], "attention"),
        _node("MatMul", ["attention", "head.before.1.member"], "share"),
        _node("Log", ["share"], "compared"),
    ]


def _by_relation() -> list[Any]:
    found = [
        _node("Unsqueeze", ["inner", "axis"], "one"),
        _node("Unsqueeze", ["head.before.1.means", "zero"], "other"),
        _node("Sub", ["one", "other"], "difference"),
        _node("Abs", ["difference"], "distance"),
        _node("Mul", ["one", "other"], "products"),
    ]
    total = "head.before.1.bias"
    for name, figures in {"item": "one", "mean": "other", "apart": "distance", "product": "products"}.items():
        found += [
            _node("Transpose", [f"head.before.1.{name}"], f"{name}.turned", perm=[1, 0]),
            _node("MatMul", [figures, f"{name}.turned"], f"{name}.part"),
            _node("Add", [total, f"{name}.part"], f"{name}.sum"),
        ]
        total = f"{name}.sum"
    return [
        *found,
        _node("Relu", [total], "hidden"),
        _node("MatMul", ["hidden", "head.before.1.out_weight"], "compared"),
    ]


_COMPARE = {"class_means": _by_means, "items": _by_items, "relation": _by_relation, "ridge": list}
