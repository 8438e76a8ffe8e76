"""Networks for rows of tables; their size is what the table's preparation makes it.

`tabular_linear` hands on its encoded inputs: figures, what is missing, and a figure for each category (one-hot).
`tabular_mlp` is a residual network on figures and embedded categories (Gorishniy, Rubachev, Khrulkov, Babenko:
Revisiting Deep Learning Models for Tabular Data, NeurIPS 2021), with layer norms in place of batch norms; the encoded
inputs stand beside its own in the embedding (Cheng et al.: Wide & Deep Learning for Recommender Systems, DLRS 2016),
so that a linear model on it can do whatever one on the table itself could.
"""

import torch
from torch import Tensor, nn

from core.contract.base_models import BaseModelCard
from core.contract.prepare import TabularPrepare
from worker.engine.backbones.backbone import Stages

CATEGORY = 8  # figures of an embedded category
DROPOUT = 0.1
_SMALL, _NARROW, _BROAD = 10_000, 128, 256  # rows up to which the network is narrow


class Encoded(nn.Module):
    """Numbers (n, 2 m) and categories (n, k), whichever there are -> figures (n, 2 m + all categories, 0 included)."""

    columns: Tensor
    values: Tensor

    def __init__(self, prepare: TabularPrepare) -> None:
        super().__init__()
        self.numbers = bool(prepare.numbers)
        sizes = _sizes(prepare)
        self.register_buffer("columns", torch.tensor([i for i, size in enumerate(sizes) for _ in range(size)]).long())
        self.register_buffer("values", torch.tensor([i for size in sizes for i in range(size)]).long())
        # A network without parameters is known by its tensors alone: other tables, other tensors.
        self.register_buffer("figures", torch.tensor([len(prepare.numbers), *sizes]))

    def forward(self, first: Tensor, second: Tensor | None = None) -> Tensor:
        """The inputs in the order of `TabularPreparer.names`."""
        categories = second if self.numbers else first
        if categories is None:
            return first
        hot = (categories.index_select(1, self.columns) == self.values).float()
        return torch.cat([first, hot], dim=1) if self.numbers else hot


class Mlp(nn.Module):
    """Inputs as `Encoded` -> (n, width + that of the encoded inputs)."""

    offsets: Tensor

    def __init__(self, prepare: TabularPrepare, width: int, depth: int) -> None:
        super().__init__()
        self.numbers, self.category_columns = bool(prepare.numbers), len(prepare.categories)
        self.encoded = Encoded(prepare)
        sizes = _sizes(prepare)
        if sizes:
            starts = [sum(sizes[:place]) for place in range(len(sizes))]
            self.register_buffer("offsets", torch.tensor(starts))
            self.table = nn.Embedding(sum(sizes), CATEGORY)
            with torch.no_grad():  # what is unknown says nothing until some row was
                self.table.weight[starts] = 0
        count = len(prepare.numbers)
        self.mix = nn.Linear(2 * count + CATEGORY * len(sizes), width)
        with torch.no_grad():  # nor does what is missing: another table may lack a column that was always there
            self.mix.weight[:, count : 2 * count] = 0
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, first: Tensor, second: Tensor | None = None) -> Tensor:
        """The inputs in the order of `TabularPreparer.names`."""
        parts = [first] if self.numbers else []
        categories = second if self.numbers else first
        if categories is not None:
            # Not `self.table(…)`: the exporter would name that figure `embedding`, as it does the whole network's.
            places = (categories + self.offsets).flatten()
            parts.append(self.table.weight.index_select(0, places).reshape(-1, self.category_columns * CATEGORY))
        x = self.mix(torch.cat(parts, dim=1))
        for block in self.blocks:
            x = block(x)
        deep = torch.relu(self.norm(x))
        return torch.cat([deep, self.encoded(first, second)], dim=1)


class Block(nn.Module):
    """x + dropout(linear(dropout(relu(linear(norm(x))))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) -> (n, width)."""
        changed: Tensor = self.dropout(self.down(self.dropout(torch.relu(self.up(self.norm(x))))))
        return x + changed


def _sizes(prepare: TabularPrepare) -> list[int]:
    """Figures of each category column, the unknown one included."""
    return [len(column.values) + 1 for column in prepare.categories]


def encoded_width(prepare: TabularPrepare) -> int:
    """Length of the encoded inputs."""
    return 2 * len(prepare.numbers) + sum(_sizes(prepare))


def completed(card: BaseModelCard, prepare: TabularPrepare, *, deep: int | None = None) -> BaseModelCard:
    """The card with what a table decides: its preparation, the embedding's width, the number of parameters.

    `deep` is the width of the residual network; a table of few rows gets a narrow one.
    """
    own = 0
    if card.architecture == "tabular_mlp":
        own = deep or (_NARROW if prepare.rows <= _SMALL else _BROAD)
    found = card.model_copy(update={"prepare": prepare, "width": own + encoded_width(prepare)})
    with torch.device("meta"):
        parameters = sum(part.numel() for part in build(found).parameters())
    return found.model_copy(update={"parameters": parameters})


def deep_width(card: BaseModelCard) -> int:
    """Width of the residual network of a completed card."""
    assert isinstance(card.prepare, TabularPrepare)
    return card.width - encoded_width(card.prepare)


def build(card: BaseModelCard) -> nn.Module:
    """The network of a completed card, with random weights."""
    assert isinstance(card.prepare, TabularPrepare)
    if card.architecture == "tabular_linear":
        return Encoded(card.prepare)
    return Mlp(card.prepare, deep_width(card), len(card.stages) - 1)


def behead(_card: BaseModelCard, module: nn.Module) -> nn.Module:
    """These networks have no classifier."""
    return module


def rename(_card: BaseModelCard, tensors: dict[str, Tensor], _names: list[str]) -> dict[str, Tensor]:
    """Tensors of a weights file under the network's names, which are its own."""
    return tensors


def stages(card: BaseModelCard, module: nn.Module) -> Stages:
    """The network's parts from input to output, named as in the card."""
    if isinstance(module, Encoded):
        return [(card.stages[0], [module])]
    assert isinstance(module, Mlp)
    inputs: list[nn.Module] = [module.encoded, module.mix, *([module.table] if module.category_columns else [])]
    blocks: list[list[nn.Module]] = [[block] for block in module.blocks]
    blocks[-1].append(module.norm)
    return list(zip(card.stages, [inputs, *blocks], strict=True))


def suggested(rows: int) -> dict[str, float]:
    """Options of `fine_tune` that do well on tables of so many training rows.

    Measured on six sets of 140 to 2,400 rows, means of three splits: a head start on the embedding beats scratch
    (digits 0.988 against 0.972, diabetes R2 0.34 against 0.30); a tenfold weight decay gains up to 0.3 points; rates of
    0.0003 and 0.003, or batches of 256, gain nothing. The backbone is no pretrained one: it learns at the head's rate.
    """
    batch_size = 64 if rows <= _SMALL else 256
    rate = 1e-3 if rows <= _SMALL else 2e-3
    return {
        "epochs": 100 if rows <= _SMALL else 30,
        "batch_size": batch_size,
        "head_lr": rate,
        "backbone_lr": rate,
        "weight_decay": 0.1,
        "early_stop": 20 if rows <= _SMALL else 5,
    }
