"""One device, and one tiny network that was really profiled on it, for all tests here."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.graph.couple import Channels, couple
from pipeline.graph.model import Model
from pipeline.latency import alone, samples
from pipeline.latency.profiling import NetworkProfile, profile_network
from targets.connection import Connection, connect
from targets.profiles.store import ProfileStore
from targets.target import Target
from tests.latency.networks import residual

WIDTH = 32
BRIEF = 4  # runs a profile: what is claimed here does not hang on how steady times are


@pytest.fixture(scope="package", autouse=True)
def _brief() -> Iterator[None]:
    """Everything really runs, only not as often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alone, "RUNS", BRIEF)
        patch.setattr(samples, "profile_model", functools.partial(samples.profile_model, runs=BRIEF))
        yield


@pytest.fixture(scope="package")
def connection() -> Iterator[Connection]:
    with connect(Target("local")) as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> ProfileStore:
    return ProfileStore(tmp_path / "own.sqlite")


@dataclass(frozen=True, eq=False)
class Profiled:
    """The network, the database it filled, and what came out, the first time and the second."""

    model: Model
    channels: Channels
    store: ProfileStore
    first: NetworkProfile
    second: NetworkProfile


@pytest.fixture(scope="package")
def profiled(connection: Connection, tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    model = residual(WIDTH)
    channels = couple(model)
    store = ProfileStore(tmp_path_factory.mktemp("db") / "throw-away.sqlite")
    first, second = (profile_network(model, channels, channels.free, connection, store) for _ in range(2))
    return Profiled(model, channels, store, first, second)
