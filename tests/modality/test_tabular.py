"""Rows become figures: fitted to training rows alone, robust to whatever a user sends, one by one as all at once."""

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.contract.datasets import Column
from core.contract.prepare import TabularPrepare
from core.modality import cells, tabular_fit
from core.modality.errors import UnreadableItemError
from core.modality.preparers import preparer
from core.modality.tabular import TabularPreparer, decode, fit


def columns(**kinds: str) -> list[Column]:
    return [Column.model_validate({"name": name, "kind": kind}) for name, kind in kinds.items()]


KINDS = columns(age="number", member="boolean", since="date", town="category", note="text", nr="identifier")
TOWNS = ["Ulm", "Bonn", "Ulm", "Kiel", "Ulm", "Bonn"]
ROWS = [
    {
        "age": 20.0 + 5 * i,
        "member": i % 2 == 0,
        "since": f"2020-0{i % 6 + 1}-15",
        "town": TOWNS[i % 6],
        "note": "hi",
        "nr": str(i),
    }
    for i in range(12)
]
CONFIG = fit(ROWS, KINDS)
PREPARE = TabularPreparer(CONFIG)
FIGURES = len(CONFIG.numbers)


def test_a_row_is_decoded_and_what_is_none_is_refused() -> None:
    assert decode(b'{"age": 3, "town": null}') == {"age": 3, "town": None}
    for wrong in (b"[1]", b"{", b"\xff\xfe", b""):
        with pytest.raises(UnreadableItemError):
            decode(wrong)


def test_kinds_decide_which_columns_become_what() -> None:
    assert PREPARE.names == ("numbers", "categories")
    assert [(column.name, column.kind) for column in CONFIG.numbers if column.part == "value"] == [
        ("age", "number"),
        ("member", "boolean"),
        ("since", "date"),
    ]
    assert [column.part for column in CONFIG.numbers if column.name == "since"] == ["value", "week_sin", "week_cos"]
    assert [(column.name, column.values) for column in CONFIG.categories] == [("town", ["Ulm", "Bonn", "Kiel"])]
    assert CONFIG.ignored == ["note", "nr"]
    assert CONFIG.rows == 12


def test_figures_are_squeezed_z_scores_then_missing_flags_then_category_numbers() -> None:
    numbers, categories = PREPARE({"age": 77.0, "member": None, "since": "2020-03-15", "town": "Kiel"})
    assert numbers.shape == (2 * FIGURES,)
    assert numbers.dtype == np.float32
    assert categories.tolist() == [3]
    assert categories.dtype == np.int64
    age = CONFIG.numbers[0]
    z = (77 - age.mean) / age.scale
    assert numbers[0] == pytest.approx(z / math.sqrt(1 + (z / age.limit) ** 2), rel=1e-6)
    assert numbers[1] == 0
    assert numbers[FIGURES:].tolist() == [0, 1, 0, 0, 0]


def test_the_centre_is_the_median_and_a_quarter_of_wild_values_moves_little() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(50, 4, 2000)
    tame = fit(({"x": v} for v in values), columns(x="number")).numbers[0]
    assert tame.mean == pytest.approx(50, abs=0.3)
    assert tame.scale == pytest.approx(4, rel=0.05)
    values[:200] *= 1e200
    wild = fit(({"x": v} for v in values), columns(x="number")).numbers[0]
    assert wild.mean == pytest.approx(50, abs=1)
    assert wild.scale == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize(
    ("values", "scale"),
    [([], 1.0), ([None, None], 1.0), ([7.0] * 9, 1.0), ([0.1] * 9, 1.0), ([0.0] * 95 + [4.0] * 5, 0.87)],
)
def test_columns_without_spread_have_a_scale_all_the_same(values: list[float | None], scale: float) -> None:
    found = fit(({"x": value} for value in values), columns(x="number")).numbers[0]
    assert found.scale == pytest.approx(scale, abs=0.01)


def test_dates_show_their_place_in_the_year_and_the_day_where_they_span_it() -> None:
    def parts(values: list[str]) -> list[str]:
        return [column.part for column in fit([{"d": v} for v in values], columns(d="date")).numbers]

    assert parts(["2020-01-01", "2020-01-03"]) == ["value"]
    assert parts(["2020-01-01", "2020-12-24"]) == ["value", "year_sin", "year_cos", "week_sin", "week_cos"]
    assert parts(["2020-01-01T06:00:00", "2020-01-03T18:00:00"]) == ["value", "day_sin", "day_cos"]
    prepare = TabularPreparer(fit([{"d": "2020-01-01T06:00:00"}, {"d": "2020-01-02"}], columns(d="date")))
    numbers = prepare({"d": "2021-07-09T06:00:00"})[0]
    assert numbers[1] > 1 > abs(numbers[2]), "a quarter past midnight's cycle: sine at its top, cosine at zero"


def test_frequent_categories_come_first_and_the_rest_is_unknown() -> None:
    rows: list[dict[str, Any]] = [{"c": f"v{min(int(i**0.5), 30)}"} for i in range(1, 1200)]
    rows += [{"c": "once"}, {"c": None}, {"c": " "}]
    values = fit(rows, columns(c="category")).categories[0].values
    assert values[0] == "v30"
    assert values[-1] == "v1"
    assert "once" not in values, "what was seen once in many rows is no better known than what was not"
    many = fit(({"c": str(i % 1000)} for i in range(3000)), columns(c="category")).categories[0].values
    assert len(many) == 256


def test_all_columns_together_keep_to_the_room_for_categories() -> None:
    kinds = columns(**{f"c{i}": "category" for i in range(20)})
    rows = [{f"c{i}": str((row * (i + 1)) % 250) for i in range(20)} for row in range(1000)]
    found = fit(rows, kinds)
    assert len(found.categories) == 20
    assert 1000 < sum(len(column.values) for column in found.categories) <= 2048


def test_memory_stays_bounded_and_the_sample_is_even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular_fit, "_CELLS", 1000)
    monkeypatch.setattr(tabular_fit, "_COUNTED", 50)
    kinds = columns(x="number", c="category")
    read = iter(range(30_000))

    def rows() -> Iterator[dict[str, Any]]:
        return ({"x": float(i), "c": "often" if i % 3 else str(i)} for i in read)

    found = fit(rows(), kinds)
    assert next(read, None) is None, "every row was read, and only once"
    assert found.rows == 30_000
    assert found.numbers[0].mean == pytest.approx(15_000, rel=0.15)
    assert found.categories[0].values[0] == "often"
    assert fit(({"x": float(i), "c": "often" if i % 3 else str(i)} for i in range(30_000)), kinds) == found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3.0),
        ("3.5", 3.5),
        (" -2e3 ", -2000.0),
        ("1,234.5", 1234.5),
        ("1,5", 1.5),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        ("", math.nan),
        ("abc", math.nan),
        ("nan", math.nan),
        (math.inf, math.nan),
        (10**400, math.nan),
        ([1], math.nan),
        ({"a": 1}, math.nan),
        (None, math.nan),
        (b"1", math.nan),
    ],
)
def test_numbers_are_read_out_of_whatever_comes(value: object, expected: float) -> None:
    assert cells.number(value) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("value", "expected"), [("Yes", 1), ("FALSE", 0), (1, 1), (0.0, 0), ("1", 1), (7, math.nan), ("maybe", math.nan)]
)
def test_booleans_are_read_out_of_words(value: object, expected: float) -> None:
    assert cells.boolean(value) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1970-01-02", 1.0),
        ("1970-01-01T12:00:00", 0.5),
        ("1970-01-01T12:00:00+06:00", 0.25),
        ("1970-01-01T12:00:00Z", 0.5),
        ("1970/01/03", 2.0),
        ("31.01.1970", 30.0),
        ("31/01/1970", 30.0),
        ("01/31/1970", 30.0),
        ("02/03/1970", math.nan),
        ("31.02.1970", math.nan),
        ("soon", math.nan),
        (date(1970, 1, 2), 1.0),
        (datetime(1970, 1, 1, 18, tzinfo=UTC), 0.75),
        (12.0, math.nan),
        (None, math.nan),
    ],
)
def test_dates_are_days_since_1970(value: object, expected: float) -> None:
    assert cells.days(value) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("spelt", ["1", 1, 1.0, "1.0", " 1 "])
def test_a_category_that_looks_like_a_number_is_known_in_any_spelling(spelt: object) -> None:
    prepare = TabularPreparer(fit([{"c": "1"}, {"c": "2"}, {"c": "1"}], columns(c="category")))
    assert prepare({"c": spelt})[0].tolist() == [1]
    words = TabularPreparer(fit([{"c": "True"}, {"c": "False"}, {"c": "True"}], columns(c="category")))
    assert words({"c": True})[0].tolist() == [1]


def test_what_is_unknown_or_missing_is_zero_and_keys_nobody_knows_are_told() -> None:
    numbers, categories = PREPARE({"town": "Rome", "agee": 3, "note": "x", "age": "unknown"})
    assert categories.tolist() == [0]
    assert numbers[:FIGURES].tolist() == [0] * FIGURES
    assert numbers[FIGURES:].tolist() == [1] * FIGURES
    assert PREPARE.unknown({"town": "Rome", "agee": 3, "note": "x", "age": 4}) == ["agee"]


def test_wild_values_stay_within_the_limit() -> None:
    for wild in (1e308, -1e308, 1e12, "9" * 60):
        numbers = PREPARE({"age": wild})[0]
        assert abs(numbers[0]) == pytest.approx(CONFIG.numbers[0].limit, rel=1e-3)
        assert numbers[FIGURES] == 0


def test_a_parents_columns_stay_and_new_ones_come_after_them() -> None:
    kinds = columns(height="number", age="number", town="category", sex="category", since="number")
    rows = [{"height": 1.7, "age": 1000.0, "town": "Rome", "sex": "f", "since": 4.0}] * 5
    child = fit(rows, kinds, parent=CONFIG)
    assert child.numbers[:FIGURES] == CONFIG.numbers, "old statistics hold, that a known value looks the same"
    assert [(column.name, column.kind) for column in child.numbers[FIGURES:]] == [
        ("height", "number"),
        ("since", "number"),
    ]
    assert child.categories[0] == CONFIG.categories[0]
    assert child.categories[1].values == ["f"]
    assert child.ignored == ["note", "nr"]
    before = PREPARE({"age": 33.0, "town": "Bonn"})
    after = TabularPreparer(child)({"age": 33.0, "town": "Bonn", "height": 1.8})
    assert after[0][:FIGURES].tolist() == before[0][:FIGURES].tolist()
    assert after[1][0] == before[1][0]


def test_only_inputs_that_exist_are_made() -> None:
    assert TabularPreparer(fit(ROWS, columns(age="number"))).names == ("numbers",)
    assert TabularPreparer(fit(ROWS, columns(town="category"))).names == ("categories",)
    assert preparer(fit(ROWS, columns(town="category"))).names == ("categories",)
    alone = TabularPreparer(fit(ROWS, columns(town="category")))
    assert alone.collate([alone(row) for row in ROWS])[0].shape == (12, 1)


def test_a_preparation_survives_json() -> None:
    again = TabularPrepare.model_validate_json(CONFIG.model_dump_json())
    assert again == CONFIG
    assert all((x == y).all() for x, y in zip(TabularPreparer(again).many(ROWS), PREPARE.many(ROWS), strict=True))


VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.dates().map(str),
    st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.isoformat()),
    st.floats().map(str),
    st.sampled_from(["Ulm", "Bonn", "1,5", "yes", "", "∞", "１２"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)
KEYS = ["age", "member", "since", "town", "other"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES), min_size=1, max_size=6))
def test_rows_one_by_one_and_all_at_once_give_the_same_finite_figures(rows: list[dict[str, Any]]) -> None:
    """Predicting one row and training on many must not differ by a bit, whatever stands in them."""
    one_by_one = PREPARE.collate([PREPARE(row) for row in rows])
    at_once = PREPARE.many(rows)
    for single, many in zip(one_by_one, at_once, strict=True):
        assert single.dtype == many.dtype
        assert single.shape == many.shape
        assert (single == many).all()
    assert np.isfinite(at_once[0]).all()
    assert np.abs(at_once[0][:, :FIGURES]).max() <= max(column.limit for column in CONFIG.numbers) + 1e-5
    assert set(at_once[1].ravel()) <= {0, 1, 2, 3}


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, max_size=30), st.sampled_from(["number", "boolean", "date", "category"]))
def test_any_column_can_be_fitted(values: list[Any], kind: Literal["number", "boolean", "date", "category"]) -> None:
    found = fit([{"x": value} for value in values], columns(x=kind))
    prepared = TabularPreparer(found).many([{"x": value} for value in values] or [{}])
    assert all(np.isfinite(part).all() for part in prepared)
