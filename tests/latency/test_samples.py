"""Plans in place on this device, and the database that remembers them, for this network and for others."""

from dataclasses import asdict, dataclass, replace

import pytest

from pipeline.graph.couple import Channels, couple
from pipeline.graph.model import Model
from pipeline.latency import samples
from pipeline.latency.samples import PlanSpace, known_kernels, known_sample, sample_plan
from pipeline.latency.sites import SiteMap, sites_of
from pipeline.latency.table import Sample, family_key
from targets.connection import Connection
from targets.profiles.store import ProfileStore, Row
from tests.latency.networks import residual

CANDIDATES = {"stem": (8, 16), "inner": (0, 8, 16)}


@dataclass(frozen=True, eq=False)
class Network:
    model: Model
    channels: Channels
    sites: SiteMap
    space: PlanSpace
    connection: Connection

    @classmethod
    def of(cls, model: Model, connection: Connection) -> "Network":
        channels = couple(model)
        sites = sites_of(model, channels, samples.profile_model(model, connection, "uncut").kernels)
        return cls(model, channels, sites, PlanSpace(channels.free, CANDIDATES), connection)

    def plan(self, stem: int, inner: int) -> dict[str, int]:
        return {group.id: group.channels for group in self.channels.groups} | {"stem": stem, "inner": inner}

    def sample(self, plan: dict[str, int], store: ProfileStore | None, session: str = "session") -> Sample:
        args = (self.model, self.channels, self.sites, plan, self.space, self.connection, store, session)
        return sample_plan(*args)

    def known(self, plan: dict[str, int], store: ProfileStore) -> Sample | None:
        return known_sample(self.sites, plan, self.space, self.model, self.connection, store)


@pytest.fixture(scope="module")
def network(connection: Connection) -> Network:
    return Network.of(residual(), connection)


def assert_alike(one: Sample | None, other: Sample) -> None:
    assert one is not None
    assert (one.channels, one.kernels) == (other.channels, other.kernels)
    assert one.sites_ns == pytest.approx(other.sites_ns, rel=1e-12)
    assert one.end_to_end_ns == pytest.approx(other.end_to_end_ns, rel=1e-12)
    assert one.gauge_ns == pytest.approx(other.gauge_ns, rel=1e-12)
    assert one.stream_ns == pytest.approx(other.stream_ns, rel=1e-12)


def test_what_was_sampled_is_read_back_as_it_was(network: Network, store: ProfileStore) -> None:
    for plan in (network.plan(16, 16), network.plan(8, 0)):  # no kernel has the same widths in both
        taken = network.sample(plan, store)
        assert min(taken.sites_ns.values()) >= 0
        assert min(taken.end_to_end_ns, taken.gauge_ns, taken.stream_ns) > 0
        assert_alike(network.known(plan, store), taken)


def test_rows_from_before_the_stream_are_read_and_have_none(
    network: Network, store: ProfileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = store.add

    def without(rows: list[Row]) -> None:
        add([replace(row, observed={k: v for k, v in row.observed.items() if k != "stream_ns"}) for row in rows])

    plan = network.plan(16, 16)
    with monkeypatch.context() as patched:
        patched.setattr(store, "add", without)
        taken = network.sample(plan, store, "before")
    assert_alike(network.known(plan, store), replace(taken, stream_ns=0.0))
    later = network.sample(plan, store, "later")
    found = network.known(plan, store)
    assert found is not None
    assert found.stream_ns == pytest.approx(later.stream_ns)


def test_a_plan_that_was_not_sampled_is_not_known(network: Network, store: ProfileStore) -> None:
    plan = network.plan(8, 0)
    assert network.known(plan, store) is None
    network.sample(plan, store)
    assert network.known(network.plan(8, 8), store) is None
    dropped = replace(network, space=replace(network.space, constants="dropped"))
    assert dropped.known(plan, store) is None  # another network remains of it
    assert replace(network, space=replace(network.space, rewrite=True)).known(plan, store) is None


def test_without_a_database_nothing_is_kept(network: Network) -> None:
    assert asdict(network.sample(network.plan(8, 8), None))["gauge_ns"] > 0


def test_what_a_slower_device_showed_comes_back_in_its_own_gauge(
    network: Network, store: ProfileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = store.add

    def slowed(rows: list[Row]) -> None:
        for row in rows:
            speed = {name: [3 * time for time in row.observed[name]] for name in ("gauge_ns", "stream_ns")}
            add([replace(row, samples_ns=tuple(3 * t for t in row.samples_ns), observed={**row.observed, **speed})])

    monkeypatch.setattr(store, "add", slowed)
    plan = network.plan(16, 8)
    taken = network.sample(plan, store)
    assert_alike(network.known(plan, store), taken.scaled(3.0))


def test_other_networks_kernels_are_found_at_the_widths_they_were_seen_at(
    network: Network, connection: Connection, store: ProfileStore
) -> None:
    other = Network.of(residual(tail="Sigmoid"), connection)
    assert known_kernels(other.sites, other.space, connection, store) == {}
    taken = [network.sample(network.plan(*widths), store, str(widths)) for widths in ((16, 16), (8, 16), (8, 0))]
    known = known_kernels(other.sites, other.space, connection, store)
    of = {site.linear or site.name: site for site in other.sites.sites}
    assert set(known) == {family_key(site.family) for site in network.sites.sites}
    assert set(known) == {family_key(site.family) for site in other.sites.sites} - {family_key(of["tail"].family)}
    last = known[family_key(of["outer"].family)]
    assert set(last) == {(16, 16), (16, 8)}  # a branch that is gone shows no kernel
    (name,) = [site.name for site in network.sites.sites if site.linear == "outer"]
    for sample in taken[:2]:
        at = (sample.channels["inner"], sample.channels["stem"])
        assert last[at] == pytest.approx(sample.sites_ns[name] / sample.gauge_ns, rel=1e-12)
    assert of["stem"].family == of["inner"].family
    assert set(known[family_key(of["stem"].family)]) == {(3, 16), (3, 8), (16, 16), (8, 16)}


def test_widths_that_are_not_on_offer_are_not_asked_for(network: Network, store: ProfileStore) -> None:
    network.sample(network.plan(12, 16), store)
    found = known_kernels(network.sites, network.space, network.connection, store)
    assert all(12 not in widths for times in found.values() for widths in times)
    wider = replace(network.space, candidates={"stem": (12, 16), "inner": (16,)})
    again = known_kernels(network.sites, wider, network.connection, store)
    assert any(12 in widths for times in again.values() for widths in times)


def test_many_combinations_are_asked_for_from_all_over_and_the_same_ones_every_time(
    network: Network, store: ProfileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def spied(digests: list[str]) -> dict[str, list[Row]]:
        asked.append(sorted(digests))
        return {}

    monkeypatch.setattr(store, "find", spied)
    every = tuple(range(1, 17))
    many = replace(network.space, candidates={"stem": every, "inner": every})
    for _ in range(2):
        known_kernels(network.sites, many, network.connection, store)
    assert asked[0] == asked[1]
    assert len(asked[0]) <= samples.MOST_COMBINATIONS * len(network.sites.sites)
