"""Profiles keep the newest figures; measurements are asked for once, claimed once, and finished once."""

import pytest

from core.contract.errors import JobError
from core.contract.jobs import JobSpec
from core.estimating.rates import KEPT, Observation, Rates
from core.store import measurements, profiles
from core.store.leases import LostLeaseError
from core.store.store import Store

SPEC = JobSpec(source="ds_" + "0" * 26)


def test_the_newest_figures_are_kept_and_those_of_jobs_outweigh_measurements(store: Store) -> None:
    seen = Observation("embed", 0.5, network="a", data="d")
    with store.db.write() as tx:
        profiles.add(tx, "cpu", [seen], "measured")
        profiles.add(
            tx, "cpu", [Observation("embed", float(i), network="a", data="d") for i in range(KEPT + 3)], "history"
        )
        profiles.add(tx, "cpu", [Observation("embed", 9.0, network="b"), Observation("epochs", 0.5)], "history")
        profiles.add(tx, "gpu", [seen], "measured")
    with store.db.read() as tx:
        found = {row.kind: row for row in profiles.of(tx, "cpu", ["a"])}
        assert {row.values for row in profiles.of(tx, "gpu", ["a"])} == {(0.5,)}
    assert set(found) == {"embed", "epochs"}
    assert found["embed"].values == tuple(float(i) for i in range(3, KEPT + 3))
    assert found["embed"].source == "history"
    rate = Rates(found.values()).find("embed", network="a", data="d")
    assert rate is not None
    assert (rate.exact, rate.basis) == (True, "history")
    other = Rates(found.values()).find("embed", network="a", data="else")
    assert other is not None
    assert not other.exact
    assert other.spread > rate.spread


def test_devices_are_told_newest_first(store: Store) -> None:
    for name in ("one", "two", "one"):
        with store.db.write() as tx:
            profiles.add(tx, name, [Observation("device", 1.0, facts={"host": name})], "history")
    with store.db.read() as tx:
        assert [row.device for row in profiles.devices(tx)] == ["one", "two"]


def test_a_measurement_under_way_is_not_asked_for_twice(store: Store) -> None:
    with store.db.write() as tx:
        first = measurements.ask(tx, "a", SPEC)
        assert measurements.ask(tx, "a", SPEC) == first
        assert measurements.ask(tx, "b", SPEC) != first
        assert measurements.ask(tx, "a", SPEC.model_copy(update={"base_model": "resnet18"})) != first
        claim = measurements.claim_next(tx, "me", 60)
    assert claim is not None
    assert (claim.fence.id, claim.tenant, claim.spec) == (first, "a", SPEC)
    with store.db.write() as tx:
        assert measurements.ask(tx, "a", SPEC) == first
        measurements.finish(tx, claim.fence)
        assert measurements.ask(tx, "a", SPEC) != first
        found = measurements.get(tx, first)
    assert found is not None
    assert (found.state, found.error) == ("done", None)


def test_a_late_worker_finishes_nothing(store: Store) -> None:
    with store.db.write() as tx:
        made = measurements.ask(tx, "a", SPEC)
        late = measurements.claim_next(tx, "late", -1)
        now = measurements.claim_next(tx, "now", 60)
    assert late is not None
    assert now is not None
    assert now.lost == 1
    with pytest.raises(LostLeaseError), store.db.write() as tx:
        measurements.finish(tx, late.fence)
    error = JobError("no", code="x").body()
    with store.db.write() as tx:
        measurements.finish(tx, now.fence, error)
        found = measurements.get(tx, made)
    assert found is not None
    assert (found.state, found.error) == ("failed", error)
