"""From one table to another: a network's tensors for the columns and categories that both know, by their names."""

import torch
from torch import Tensor

from core.contract.prepare import NumberColumn, TabularPrepare
from worker.engine.backbones.tabular import CATEGORY, Mlp

_BUFFERS = {"offsets", "encoded.columns", "encoded.values", "encoded.figures"}  # facts of the new table


def carry(module: Mlp, before: TabularPrepare, now: TabularPrepare, tensors: dict[str, Tensor]) -> None:
    """Fill a fresh network for `now` with the tensors of one for `before`.

    Columns that are new have weights of zero, so that the function starts as the old one's; embeddings of new columns
    and categories stay as they are drawn, those of categories that are gone are left out. Raises `RuntimeError` where
    the tensors are not those of such a network.
    """
    own = module.state_dict()
    filled = {name: tensor for name, tensor in tensors.items() if name not in _BUFFERS}
    filled |= {name: own[name] for name in _BUFFERS & own.keys()}
    filled["mix.weight"] = _mixed(before, now, tensors["mix.weight"])
    if "table.weight" in own:
        filled["table.weight"] = _embedded(before, now, tensors.get("table.weight"), own["table.weight"])
    else:
        filled.pop("table.weight", None)
    module.load_state_dict(filled, strict=True)


def _mixed(before: TabularPrepare, now: TabularPrepare, weight: Tensor) -> Tensor:
    """The first layer's weight (width, inputs): columns moved to where they stand now."""
    then = {key: place for place, key in enumerate(_inputs(before))}
    if len(then) != weight.shape[1]:
        raise RuntimeError(f"error:\nmix.weight takes {weight.shape[1]} inputs, its table has {len(then)}")
    inputs = _inputs(now)
    found = weight.new_zeros(weight.shape[0], len(inputs))
    for place, key in enumerate(inputs):
        if key in then:
            found[:, place] = weight[:, then[key]]
    return found


def _inputs(prepare: TabularPrepare) -> list[tuple[object, ...]]:
    """A name for each input of the first layer."""
    figures = [("figure", *_key(column)) for column in prepare.numbers]
    missing = [("missing", *_key(column)) for column in prepare.numbers]
    return [*figures, *missing, *(("category", c.name, i) for c in prepare.categories for i in range(CATEGORY))]


def _key(column: NumberColumn) -> tuple[str, bool, str]:
    return column.name, column.kind == "date", column.part


def _embedded(before: TabularPrepare, now: TabularPrepare, old: Tensor | None, fresh: Tensor) -> Tensor:
    """Rows of the table of embeddings (categories, CATEGORY)."""
    then = {key: place for place, key in enumerate(_rows(before))}
    rows = _rows(now)
    known = [place for place, key in enumerate(rows) if key in then]
    found = fresh.clone()
    if old is not None and known:
        found[known] = old[torch.tensor([then[rows[place]] for place in known])]
    return found


def _rows(prepare: TabularPrepare) -> list[tuple[str, str | None]]:
    """Column and value of each row; None is the unknown one."""
    return [(column.name, value) for column in prepare.categories for value in (None, *column.values)]
