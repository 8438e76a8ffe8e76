"""What the contract promises: ids, the menu of methods, migrations that match the tables."""

from contextlib import nullcontext

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.contract.base import new_id
from core.contract.methods import METHODS, method_cards
from core.settings import Settings
from core.store.store import Store
from core.store.tables import metadata


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    ids = [new_id("job") for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)


def test_every_option_of_every_method_is_explained() -> None:
    checked = 0
    for name, options in METHODS.items():
        assert all((options.title, options.summary, options.when, options.paper)), name
        for field, info in options.model_fields.items():
            if field != "name":
                assert info.description, f"{name}.{field} has no sentence"
                checked += 1
    assert checked > 10


def test_menu_carries_the_json_schema_of_the_options() -> None:
    cards = {card.name: card for card in method_cards()}
    assert set(cards) == set(METHODS)
    assert cards["fine_tune"].options["properties"]["epochs"]["anyOf"][0]["maximum"] == 1000
    assert cards["fine_tune"].options["additionalProperties"] is False


@given(st.sampled_from(list(METHODS)))
def test_defaults_of_a_method_are_valid(name: str) -> None:
    options = METHODS[name]()
    assert METHODS[name].model_validate_json(options.model_dump_json()) == options


def test_migrations_make_exactly_the_tables(store: Store) -> None:
    with store.db.read() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize(("device", "right"), [("auto", True), ("cuda:1", True), ("gpu", False), ("cuda:", False)])
def test_a_device_that_is_none_is_found_at_the_start(device: str, right: bool) -> None:
    with nullcontext() if right else pytest.raises(ValidationError, match="device"):
        assert Settings(device=device).device == device
