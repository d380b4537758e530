"""What every runtime over every transport promises."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from pipeline.lowering import connect as connect_and_lower
from targets.connection import Connection, Engine, connect
from targets.errors import BadInput, CutbackError, NoKernelTimes, RuntimeMissing, TargetError
from targets.kernels import fifth
from targets.pairing import FEWEST_TURNS, GAUGE_RUNS
from targets.runtimes import RUNTIMES
from targets.stream import COPIES
from targets.target import Target, find_target
from targets.transports import TRANSPORTS
from tests.targets.adbd import Phone
from tests.targets.fleet import Fleet
from tests.targets.models import elementwise, model_of, residual, saved
from tests.targets.sshd import Server

X = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)


SLOW = ("executorch", "ncnn")  # to import, or to convert for


def is_slow(runtime: str, transport: str) -> bool:
    """Every runtime is seen here, and every transport with one runtime; in a fleet each request starts an agent."""
    return runtime in SLOW or transport == "dask" or (transport != "local" and runtime != "onnxruntime")


RUNNING = [
    pytest.param(
        (name, transport), id=f"{name}-over-{transport}", marks=pytest.mark.slow if is_slow(name, transport) else ()
    )
    for transport in TRANSPORTS
    for name, facts in RUNTIMES.items()
    if facts.runs
]


def local_target(request: pytest.FixtureRequest, runtime: str) -> Target:
    return Target("test", "local", runtime)


def ssh_target(request: pytest.FixtureRequest, runtime: str) -> Target:
    server: Server = request.getfixturevalue("ssh_server")
    return server.target("test", runtime)


def adb_target(request: pytest.FixtureRequest, runtime: str) -> Target:
    """A stand-in for a phone that has Python (see `tests.targets.adbd`)."""
    phone: Phone = request.getfixturevalue("phone_with_python")
    return phone.target("test", python=sys.executable, runtime=runtime)


def dask_target(request: pytest.FixtureRequest, runtime: str) -> Target:
    fleet: Fleet = request.getfixturevalue("small_fleet")
    return replace(fleet.target("small"), name="test", runtime=runtime)


REACHED = {  # transport -> a device that it reaches
    "local": local_target, "ssh": ssh_target, "adb": adb_target, "dask": dask_target,
}  # fmt: skip


def test_every_transport_has_a_device_for_the_contract() -> None:
    assert set(REACHED) == set(TRANSPORTS)


@pytest.fixture(scope="module", params=RUNNING)
def device(request: pytest.FixtureRequest) -> Iterator[Connection]:
    runtime, transport = request.param
    target = REACHED[transport](request, runtime)
    with contextlib.ExitStack() as stack:
        try:
            opened = stack.enter_context(connect_and_lower(target))
        except RuntimeMissing as missing:
            pytest.skip(str(missing))
        except TargetError as refusal:
            if "needs an NVIDIA GPU" not in str(refusal):
                raise
            pytest.skip(str(refusal))
        yield opened


def test_the_device_reports_itself(device: Connection) -> None:
    found = device.device
    assert found.device_class["cpu"]
    assert found.device_class["cores"] >= 1
    assert found.stack["runtime"] == device.target.runtime
    assert found.stack["version"]
    assert found.regime == {**found.regime, "threads": 1, "regime": "as-shipped"}
    assert not found.emulated
    assert type(found).from_dict(found.as_dict()) == found


def test_inputs_are_described_with_their_free_dimensions(device: Connection, model: Path) -> None:
    assert device.describe(model) == [{"name": "x/in:0", "shape": ["N", 3, 8, 8], "dtype": "float32"}]


def test_onnx_that_is_newer_than_what_the_runtime_reads_is_converted(device: Connection, tmp_path: Path) -> None:
    newest = elementwise((1, 4))
    newest.opset_import[0].version, newest.ir_version = onnx.defs.onnx_opset_version(), onnx.IR_VERSION
    feeds = {"x": np.array([[-1, 0, 1, 2]], np.float32)}
    assert device.run(saved(newest, tmp_path / "newest.onnx"), feeds)["y"].min() == 0


@pytest.mark.parametrize("optimise", [True, False])
def test_outputs_are_those_of_the_standard(device: Connection, model: Path, optimise: bool) -> None:
    expected = ReferenceEvaluator(onnx.load(model)).run(["y"], {"x/in:0": X})
    assert isinstance(expected, list)
    got = device.run(model, {"x/in:0": X}, optimise=optimise)
    assert list(got) == ["y"]
    np.testing.assert_allclose(got["y"], expected[0], rtol=1e-4, atol=1e-5)


def test_a_model_that_changes_between_runs_is_loaded_anew(device: Connection, tmp_path: Path) -> None:
    path = saved(elementwise((1, 4)), tmp_path / "m.onnx")
    feeds = {"x": np.array([[-1, 0, 1, 2]], np.float32)}
    assert device.run(path, feeds)["y"].min() == 0
    node = onnx.helper.make_node("Neg", ["x"], ["y"], "neg")
    saved(model_of([node], {"x": [1, 4]}, {"y": [1, 4]}, {}), path)
    assert device.run(path, feeds)["y"].min() == -2


def test_an_engine_is_a_file_that_runs_like_its_source(device: Connection, model: Path, tmp_path: Path) -> None:
    engine = device.build(model, tmp_path / "engine", shapes={"x/in:0": X.shape})
    path = tmp_path / f"engine{device.engine_suffix}"
    assert engine == Engine(path, engine.sha256, device.target.runtime, "test")
    assert len(engine.sha256) == 64
    expected = device.run(model, {"x/in:0": X})["y"]
    np.testing.assert_allclose(device.run(engine, {"x/in:0": X})["y"], expected, rtol=1e-4, atol=1e-5)
    assert device.time(engine, quick=True).samples_ns
    assert {path.name for path in tmp_path.iterdir()} == {"residual.onnx", path.name}


def test_a_session_follows_the_protocol(device: Connection, model: Path) -> None:
    session = device.time(model)
    assert session.protocol == "full"
    assert session.warm_ups >= 20  # two windows
    assert len(session.samples_ns) >= 64
    assert min(session.samples_ns) > 0


def test_a_quick_session_says_so(device: Connection, model: Path) -> None:
    session = device.time(model, quick=True)
    assert session.protocol == "quick"
    assert len(session.samples_ns) >= 20


@pytest.fixture
def telling(device: Connection) -> Connection:
    """Of the runtimes, those that tell kernel times."""
    if device.facts.join is None:
        pytest.skip(f"{device.target.runtime} tells no kernel times")
    return device


def test_a_runtime_that_tells_no_kernel_times_is_profiled_end_to_end(device: Connection, model: Path) -> None:
    if device.facts.join is not None:
        pytest.skip(f"{device.target.runtime} tells kernel times")
    profile = device.profile(model, runs=7)
    assert profile.kernels == ()
    assert len(profile.end_to_end.samples_ns) == 7
    assert profile.gauge_ns
    with pytest.raises(NoKernelTimes, match="tells no kernel times"):
        device.profile(model, kernels_only=True)


def test_a_profile_holds_kernels_and_an_end_to_end_session(telling: Connection, model: Path) -> None:
    profile = telling.profile(model, shapes={"x/in:0": (2, 3, 8, 8)}, runs=7)
    assert profile.kernels[0].inputs == ("x/in:0",)
    assert profile.kernels[0].input_shapes == ((2, 3, 8, 8),)
    assert profile.kernels[-1].outputs == ("y",)
    assert all(len(kernel.samples_ns) == 7 for kernel in profile.kernels)
    assert profile.end_to_end.protocol == "in turns"
    assert len(profile.end_to_end.samples_ns) == 7
    assert min(profile.end_to_end.samples_ns) > 0
    assert profile.beyond_ns == profile.end_to_end.median_ns - profile.total_ns


def test_a_profile_takes_turns_with_the_gauge(telling: Connection, model: Path) -> None:
    profile = telling.profile(model, runs=24)
    (runs,) = {len(kernel.samples_ns) for kernel in profile.kernels} | {len(profile.end_to_end.samples_ns)}
    assert runs >= 24
    turns, rest = divmod(len(profile.gauge_ns), GAUGE_RUNS)
    assert rest == 0
    assert runs % turns == 0
    assert turns >= FEWEST_TURNS
    assert len(profile.calm) == fifth(runs)
    assert min(profile.gauge_ns) > 0
    assert len(profile.stream_ns) == 2 * COPIES
    assert min(profile.stream_ns) > 0


def test_kernels_alone_are_their_own_end_to_end_session(telling: Connection, model: Path) -> None:
    profile = telling.profile(model, runs=3, kernels_only=True)
    runs = zip(*(kernel.samples_ns for kernel in profile.kernels), strict=True)
    assert profile.end_to_end.samples_ns == tuple(map(sum, runs))
    assert len(profile.gauge_ns) == 3 * GAUGE_RUNS
    assert profile.stream_ns == ()


@pytest.mark.parametrize("runs", [0, -1])
def test_a_profile_of_no_runs_is_refused(device: Connection, model: Path, runs: int) -> None:
    with pytest.raises(BadInput, match="at least 1"):
        device.profile(model, runs=runs)


def test_an_unset_batch_is_one_and_another_free_axis_must_be_given(device: Connection, tmp_path: Path) -> None:
    batch = saved(elementwise(("N", 4)), tmp_path / "batch.onnx")
    assert device.run(batch, {"x": np.ones((1, 4), np.float32)})["y"].shape == (1, 4)
    assert device.time(batch, quick=True).samples_ns
    if device.facts.join is not None:
        assert device.profile(batch, runs=1).kernels[0].input_shapes == ((1, 4),)
    free = saved(elementwise(), tmp_path / "free.onnx")
    with pytest.raises(BadInput, match=r"'x' leaves axis 2 of 1x3xheightx4 free.*--shape x="):
        device.time(free, quick=True)
    assert device.time(free, shapes={"x": (1, 3, 5, 4)}, quick=True).samples_ns


@pytest.mark.parametrize("shapes", [{"x": (1, 3, 5)}, {"x": (1, 4, 5, 4)}, {"x": (1, 3, 0, 4)}, {"z": (1,)}])
def test_shapes_that_do_not_fit_are_refused(device: Connection, tmp_path: Path, shapes: dict[str, tuple[int]]) -> None:
    with pytest.raises(BadInput):
        device.time(saved(elementwise(), tmp_path / "m.onnx"), shapes=shapes, quick=True)


@pytest.mark.parametrize("feeds", [{}, {"x/in:0": X[0]}, {"x/in:0": X.astype(np.float64)}, {"z": X}])
def test_feeds_that_do_not_fit_are_refused(device: Connection, model: Path, feeds: dict[str, "np.ndarray"]) -> None:
    with pytest.raises(BadInput, match=r"^[^\n]+$"):
        device.run(model, feeds)


def broken(kind: str, folder: Path) -> Path:
    path = folder / "model.onnx"
    if kind == "directory":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("This is no model.\n" * 100)
    elif kind == "truncated":
        whole = residual().SerializeToString()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "unknown operator":
        node = onnx.helper.make_node("Frobnicate", ["x"], ["y"], "frob", domain="nowhere")
        model = model_of([node], {"x": [1]}, {"y": [1]}, {})
        model.opset_import.append(onnx.helper.make_opsetid("nowhere", 1))
        saved(model, path)
    return path


@pytest.mark.parametrize("kind", ["missing", "directory", "empty", "text", "truncated", "unknown operator"])
@pytest.mark.parametrize("verb", ["describe", "build", "time", "profile"])
def test_what_is_no_model_is_refused_in_one_line(device: Connection, tmp_path: Path, kind: str, verb: str) -> None:
    path = broken(kind, tmp_path)
    if (kind, verb, device.facts.fixed) == ("unknown operator", "describe", True):
        assert device.describe(path) == [{"name": "x", "shape": [1], "dtype": "float32"}]  # as the file declares it
        return
    arguments = [tmp_path / "engine"] if verb == "build" else []
    with pytest.raises((BadInput, TargetError), match=r"^[^\n]*model\.onnx[^\n]*$") as caught:
        getattr(device, verb)(path, *arguments)
    assert len(str(caught.value)) < 600
    assert not list(tmp_path.glob("engine*"))


def test_an_engine_that_cannot_be_written_leaves_nothing(device: Connection, model: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="Cannot write"):
        device.build(model, tmp_path / "no" / "such" / "folder" / "engine")
    taken = tmp_path / f"taken{device.engine_suffix}"
    taken.mkdir()
    with pytest.raises(BadInput, match="Cannot write"):
        device.build(model, taken)
    assert {path.name for path in tmp_path.iterdir()} == {"residual.onnx", taken.name}
    assert list(taken.iterdir()) == []


def test_an_option_that_the_runtime_does_not_have_is_refused_by_name(device: Connection) -> None:
    with (
        pytest.raises(BadInput, match="no option 'frobnicate'"),
        connect(replace(device.target, options={"frobnicate": "yes"})),
    ):
        pass


def test_more_threads_than_cores_are_refused(model: Path) -> None:
    with pytest.raises(BadInput, match="1000 threads"), connect(Target("test", threads=1000)):
        pass


def test_two_threads_are_pinned_to_two_cores(model: Path) -> None:
    try:
        with connect(Target("test", threads=2)) as wide:
            assert wide.device.regime["threads"] == 2
            assert wide.time(model, quick=True).samples_ns
    except BadInput as refusal:
        pytest.skip(str(refusal))


@pytest.mark.parametrize("target", [Target("t", transport="pigeon"), Target("t", runtime="abacus")])
def test_unknown_transports_and_runtimes_are_refused_by_name(target: Target) -> None:
    with pytest.raises(BadInput, match=r"pigeon|abacus"), connect(target):
        pass


def test_an_unknown_target_lists_the_known_ones() -> None:
    assert find_target("local") == Target("local")
    with pytest.raises(BadInput, match=r"'moon'.*local"):
        find_target("moon")


def test_an_error_leaves_the_connection_usable(device: Connection, model: Path) -> None:
    with pytest.raises(CutbackError):
        device.run(model, {})
    assert device.run(model, {"x/in:0": X})["y"].shape == (2, 6, 1, 1)
