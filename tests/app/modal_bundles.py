"""Small real models of texts and rows, for each problem: their answers can be reckoned by hand."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from core.contract.datasets import Problem
from core.contract.prepare import CategoryColumn, NumberColumn, TabularPrepare, TextPrepare
from tests.app.bundles import Bundle, bundle_of, manifest_of

WORDS = {"[PAD]": 0, "[UNK]": 1, "good": 2, "bad": 3, "long": 4}
MEANING = np.array([[9, 9], [0, 0], [4, 0], [0, 4], [0, 0]], np.float32)
"""What each word adds to the two classes, before the mean over the words; padding would spoil everything."""
CLASSES = ["positive", "negative"]
CITIES = ["Berlin", "Rome"]
SIZE = NumberColumn(name="size", mean=100.0, scale=50.0, limit=3.0)
LIFT = NumberColumn(name="lift", kind="boolean", mean=0.0, scale=1.0, limit=3.0)
TABLE = TabularPrepare(
    numbers=[SIZE, LIFT], categories=[CategoryColumn(name="city", values=CITIES)], ignored=["note"], rows=9
)


def tokenizer() -> bytes:
    """Knows four words."""
    made = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(made.to_str()).encode()


def _graph(nodes: list[Any], inputs: list[Any], weights: dict[str, np.ndarray], outputs: list[str]) -> bytes:
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            inputs,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None]) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content


def _ending(problem: Problem) -> list[Any]:
    if problem == "multi_label":
        return [helper.make_node("Sigmoid", ["logits"], ["probabilities"])]
    return [helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1)]


def text_graph(problem: Problem = "classification") -> bytes:
    """The mean of the words' meanings."""
    node = helper.make_node
    nodes = [
        node("Gather", ["meaning", "input_ids"], ["words"]),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "last"], ["column"]),
        node("Mul", ["words", "column"], ["kept"]),
        node("ReduceSum", ["kept", "second"], ["sum"], keepdims=0),
        node("ReduceSum", ["column", "second"], ["count"], keepdims=0),
        node("Div", ["sum", "count"], ["embedding"]),
        node("Identity", ["embedding"], ["logits"]),
        *_ending(problem),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")
    ]
    weights = {"meaning": MEANING, "last": np.array([2]), "second": np.array([1])}
    return _graph(nodes, inputs, weights, ["probabilities", "logits", "embedding"])


def text_bundle(problem: Problem = "classification", *, with_tokenizer: bytes | None = None, **said: Any) -> Bundle:
    """A model of texts."""
    manifest = manifest_of(
        modality="text",
        problem=problem,
        classes=CLASSES,
        prepare=TextPrepare(max_tokens=8),
        input_names=["input_ids", "attention_mask"],
        base_model="minilm_l6",
        **said,
    )
    return bundle_of(manifest, text_graph(problem), tokenizer=with_tokenizer or tokenizer())


def rows_graph(problem: Problem = "classification") -> bytes:
    """Classes: the figure of `size`, and whether the city is known; value: 100 x that figure + 1000 x the city."""
    node = helper.make_node
    wanted = 1 if problem == "regression" else 2
    weight = np.zeros((5, wanted), np.float32)
    if problem == "regression":
        weight[[0, 4], 0] = 100, 1000
    else:
        weight[0, 0] = weight[4, 1] = 1
    nodes = [
        node("Cast", ["categories"], ["city"], to=TensorProto.FLOAT),
        node("Concat", ["numbers", "city"], ["embedding"], axis=1),
        node("MatMul", ["embedding", "weight"], ["value" if problem == "regression" else "logits"]),
        *([] if problem == "regression" else _ending(problem)),
    ]
    inputs = [
        helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["n", 4]),
        helper.make_tensor_value_info("categories", TensorProto.INT64, ["n", 1]),
    ]
    outputs = ["value", "embedding"] if problem == "regression" else ["probabilities", "logits", "embedding"]
    return _graph(nodes, inputs, {"weight": weight}, outputs)


def rows_bundle(problem: Problem = "classification", **said: Any) -> Bundle:
    """A model of rows."""
    regression = problem == "regression"
    manifest = manifest_of(
        modality="tabular",
        problem=problem,
        classes=[] if regression else CLASSES,
        target="price",
        prepare=TABLE,
        input_names=["numbers", "categories"],
        output_names=["value", "embedding"] if regression else ["probabilities", "logits", "embedding"],
        residual=12.5 if regression else None,
        base_model="tabular_mlp",
        **said,
    )
    return bundle_of(manifest, rows_graph(problem))
