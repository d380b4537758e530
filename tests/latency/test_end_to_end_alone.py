"""A tiny network on a runtime that tells no kernel times: profiled, stored, read back, and used.

ONNX Runtime's Azure provider takes no nodes and is in every package for Linux: all runs as on `local`, and of
providers nobody tells kernels apart.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from pipeline.cli.tables import print_profile
from pipeline.goal import parse_goal
from pipeline.graph.couple import Channels, couple
from pipeline.graph.model import Model, from_proto, save
from pipeline.latency import design, few_widths
from pipeline.latency.few_widths import telling_widths
from pipeline.latency.keys import END_TO_END, STAIRCASE_END_TO_END
from pipeline.latency.profiling import NetworkProfile, profile_network
from pipeline.latency.samples import PlanSpace, known_sample
from pipeline.latency.stored import from_json, to_json
from pipeline.profile import describe_profile
from pipeline.prune import prune
from pipeline.report.predictions import heldout as sentence
from pipeline.stages import approaching, trying
from targets.connection import Connection, connect
from targets.errors import GoalNotMet
from targets.profiles.search import Wanted, find_keys
from targets.profiles.store import ProfileStore
from targets.target import find_target
from tests.latency.conftest import WIDTH
from tests.latency.networks import residual

TELLS_NOTHING = "local:provider=AzureExecutionProvider"
SWEEP = len(telling_widths(WIDTH, 1))  # builds


@dataclass(frozen=True, eq=False)
class Found:
    model: Model
    channels: Channels
    database: Path
    store: ProfileStore
    first: NetworkProfile
    second: NetworkProfile


@pytest.fixture(scope="module")
def silent() -> Iterator[Connection]:
    with connect(find_target(TELLS_NOTHING)) as opened:
        yield opened


@pytest.fixture(scope="module")
def found(silent: Connection, tmp_path_factory: pytest.TempPathFactory) -> Found:
    model = residual(WIDTH)
    channels = couple(model)
    database = tmp_path_factory.mktemp("db") / "alone.sqlite"
    store = ProfileStore(database)
    with pytest.MonkeyPatch.context() as patch:
        brief(patch)
        first, second = (profile_network(model, channels, channels.free, silent, store) for _ in range(2))
    return Found(model, channels, database, store, first, second)


def brief(patch: pytest.MonkeyPatch) -> None:
    """One sweep, whose curve every kind but the heaviest takes, and few plans."""
    patch.setattr(few_widths, "MOST_BUILDS", SWEEP)
    patch.setattr(design, "FEWEST_PLANS", 10)
    patch.setattr(design, "PLANS_PER_CANDIDATE", 0)


def test_it_is_profiled_from_end_to_end_times_and_says_so(found: Found) -> None:
    latency = found.first.latency
    assert not latency.sites.told
    assert all(not sample.sites_ns and sample.end_to_end_ns > 0 for sample in latency.samples)
    assert not found.first.heldout.kernels_told
    assert found.first.heldout.plans + found.first.heldout.anywhere_plans > 0
    assert found.first.heldout.misses == ()
    (doubt,) = found.first.doubts
    assert "end-to-end times" in doubt
    assert describe_profile(found.first)["doubts"] == [doubt]


def test_predictions_are_sums_over_sites_that_grow_with_widths(found: Found) -> None:
    latency = found.first.latency
    full = latency.samples[0].channels
    thin = {**full, "stem": WIDTH // 4, "inner": WIDTH // 4}
    gone = {**thin, "inner": 0}
    assert latency.predict_ns(gone) < latency.predict_ns(thin) < latency.predict_ns(full)
    total = sum(table.at(full) for table in latency.cost_tables()) + latency.offset_ns
    assert latency.predict_ns(full) == pytest.approx(total)


def test_the_second_time_builds_nothing_and_says_the_same(found: Found) -> None:
    assert found.first.built == len({tuple(sample.channels.values()) for sample in found.first.latency.samples})
    assert found.second.built == 0
    assert found.second.candidates.channels == found.first.candidates.channels
    kept = found.store.database.read(lambda connection: find_keys(connection, Wanted()))
    places = [key.method["place"] for key in kept.values()]
    assert places.count(END_TO_END) == found.first.built
    assert places.count(STAIRCASE_END_TO_END) == SWEEP
    assert len(places) == found.first.built + SWEEP
    full = found.first.latency.samples[0].channels
    assert found.second.latency.predict_ns(full) == pytest.approx(found.first.latency.predict_ns(full), rel=1e-9)


def test_it_travels_as_json_and_learns_alike(found: Found) -> None:
    stored = json.loads(json.dumps(to_json(found.first)))
    again = from_json(stored, found.model)
    assert json.dumps(to_json(again)) == json.dumps(stored)
    assert again.doubts == found.first.doubts
    sample = found.first.latency.samples[3]
    one, other = (profile.latency.learned(sample) for profile in (found.first, again))
    assert one.predict_ns(sample.channels) == other.predict_ns(sample.channels)


def test_a_network_that_is_another_in_its_sizes_alone_has_other_rows(found: Found, silent: Connection) -> None:
    """Names, groups and widths are the same; the kernels are 1x1 where they were 3x3."""
    proto = onnx.ModelProto()
    proto.CopyFrom(found.model.proto)
    for node in proto.graph.node:
        if node.op_type == "Conv":
            del node.attribute[:]
    for tensor in proto.graph.initializer:
        if len(tensor.dims) == 4:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[..., :1, :1].copy(), tensor.name))
    other = from_proto(proto)
    plan = found.first.latency.samples[0].channels
    space = PlanSpace(found.channels.free, found.first.candidates.channels)
    sites = found.first.latency.sites
    assert known_sample(sites, plan, space, found.model, silent, found.store) is not None
    assert known_sample(sites, plan, space, other, silent, found.store) is None


def test_a_goal_in_latency_is_approached_without_kernel_times(
    found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Solved, built and measured on the profile that is there; on a network this small the goal itself may be missed,
    and then the error says what was measured."""
    brief(monkeypatch)
    monkeypatch.setattr(trying, "SESSIONS", 2)
    monkeypatch.setattr(trying, "MOST_BATCHES", 1)
    monkeypatch.setattr(approaching, "MOST_ROUNDS", 1)
    save(found.model, tmp_path / "net.onnx")
    said = pruned(tmp_path / "net.onnx", tmp_path / "cut.onnx", found.database)
    met = (tmp_path / "cut.onnx").exists()
    assert ("end-to-end times of" if met else "the best of 1 measured") in said


def pruned(network: Path, output: Path, database: Path) -> str:
    """Its doubts, or why not."""
    goal = parse_goal("latency<=0.9x")
    try:
        result = prune(str(network), output, goal=goal, target=TELLS_NOTHING, db=str(database), inexact=True)
    except GoalNotMet as missed:
        return str(missed)
    return " ".join(result["doubts"])


def test_the_report_and_the_command_say_that_it_rests_on_end_to_end_times_alone(
    found: Found, capsys: pytest.CaptureFixture[str]
) -> None:
    told = describe_profile(found.first)
    print_profile(told)
    out = " ".join(capsys.readouterr().out.split())
    assert "times inferred from whole networks" in out
    assert "doubt the runtime tells no kernel times" in out
    assert "from end-to-end times alone: " in out
    assert "from end-to-end times alone" in sentence({"latency": {"heldout": told["heldout"]}})
