"""The agent and ONNX Runtime on another architecture: aarch64 under an emulator, behind a real SSH server.

What is computed there is right, and how long it takes says nothing: these tests are about the former, and about the
latter being said.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline.cli import main
from pipeline.graph.model import save
from pipeline.prune import prune
from targets.connection import Connection, connect
from targets.device import EMULATED
from targets.errors import BadInput, CutbackError
from targets.profiles.rows import rows_of
from targets.profiles.store import ProfileStore
from targets.target import Target
from tests.latency import networks
from tests.targets.arm64 import NoArm, arm_device
from tests.targets.models import elementwise, model_of, residual, saved
from tests.targets.sshd import NoServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # the first one makes the computer

CLOSE = 1e-4  # of the largest output: what another order of the same sums makes of float32
X = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    try:
        with arm_device(tmp_path_factory.mktemp("arm") / "device") as found:
            yield found
    except (NoArm, NoServer) as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def arm(target: Target) -> Iterator[Connection]:
    with connect(target) as opened:
        yield opened


def assert_equal_on_both(
    model: Path, feeds: dict[str, np.ndarray], arm: Connection, here: Connection, optimise: bool
) -> None:
    # as written: optimised, an x86 processor without VNNI saturates sums of int8 products, and is the one that is wrong
    expected = here.run(model, feeds, optimise=False)
    got = arm.run(model, feeds, optimise=optimise)
    assert list(got) == list(expected)
    for name, values in expected.items():
        assert np.abs(values).max() > 0
        np.testing.assert_allclose(got[name], values, rtol=0, atol=CLOSE * np.abs(values).max())


def test_the_device_is_an_arm_and_says_that_it_is_emulated(arm: Connection) -> None:
    device = arm.device
    assert device.device_class["arch"] == "aarch64"
    assert {"asimd", "asimddp"} <= set(device.device_class["features"])
    assert not [feature for feature in device.device_class["features"] if feature.startswith("avx")]
    assert device.emulated
    assert device.device_class["emulated"] is True
    assert device.stack["os"].startswith("debian")
    assert device.stack["version"]


def depthwise() -> onnx.ModelProto:
    """The convolution that has kernels of its own on Arm, an activation that is not exact, and a matrix product."""
    rng = np.random.default_rng(2)
    nodes = [
        onnx.helper.make_node("Conv", ["x/in:0", "w"], ["c"], "c", pads=[1, 1, 1, 1], group=3),
        onnx.helper.make_node("Sigmoid", ["c"], ["s"], "s"),
        onnx.helper.make_node("Mul", ["c", "s"], ["m"], "m"),
        onnx.helper.make_node("MatMul", ["m", "v"], ["y"], "y"),
    ]
    weights = {
        name: rng.standard_normal(shape).astype(np.float32) for name, shape in (("w", (12, 1, 3, 3)), ("v", (8, 5)))
    }
    return model_of(nodes, {"x/in:0": ["N", 3, 8, 8]}, {"y": ["N", 12, 8, 5]}, weights)


def quantised() -> onnx.ModelProto:
    """An int8 convolution between its quantise and dequantise pairs. Scales are powers of two: no sum is rounded."""
    rng = np.random.default_rng(3)
    scales = {"sx": np.float32(1 / 32), "sw": np.float32(1 / 64), "sy": np.float32(1 / 4)}
    weights: dict[str, np.ndarray] = {name: np.asarray(value) for name, value in scales.items()}
    weights |= {"zero": np.asarray(0, np.int8), "w": rng.integers(-127, 128, (16, 3, 3, 3)).astype(np.int8)}
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x/in:0", "sx", "zero"], ["qx"], "qx"),
        onnx.helper.make_node("DequantizeLinear", ["qx", "sx", "zero"], ["dx"], "dx"),
        onnx.helper.make_node("DequantizeLinear", ["w", "sw", "zero"], ["dw"], "dw"),
        onnx.helper.make_node("Conv", ["dx", "dw"], ["c"], "c", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("QuantizeLinear", ["c", "sy", "zero"], ["qy"], "qy"),
        onnx.helper.make_node("DequantizeLinear", ["qy", "sy", "zero"], ["y"], "y"),
    ]
    return model_of(nodes, {"x/in:0": ["N", 3, 8, 8]}, {"y": ["N", 16, 8, 8]}, weights)


@pytest.mark.parametrize("optimise", [True, False])
@pytest.mark.parametrize(
    "made", [residual(), residual(channels=33), depthwise(), quantised()], ids=["20", "33", "depthwise", "int8"]
)
def test_outputs_are_those_of_x86(
    made: onnx.ModelProto, optimise: bool, arm: Connection, connection: Connection, tmp_path: Path
) -> None:
    assert_equal_on_both(saved(made, tmp_path / "model.onnx"), {"x/in:0": X}, arm, connection, optimise)


def test_a_cut_network_computes_there_what_it_does_here(
    arm: Connection, connection: Connection, tmp_path: Path
) -> None:
    uncut, cut = tmp_path / "uncut.onnx", tmp_path / "cut.onnx"
    save(networks.residual(), uncut)
    prune(str(uncut), cut, keep=0.5)
    assert cut.stat().st_size < uncut.stat().st_size
    assert_equal_on_both(cut, {"x": X}, arm, connection, optimise=True)


def test_an_engine_is_built_there_and_runs_like_its_source(
    arm: Connection, connection: Connection, model: Path, tmp_path: Path
) -> None:
    engine = arm.build(model, tmp_path / "arm")
    assert engine.path.is_file()
    domains = {node.domain for node in onnx.load(engine.path).graph.node}
    assert "com.microsoft.nchwc" not in domains  # the blocked layout is for x86
    expected = connection.run(model, {"x/in:0": X})["y"]
    np.testing.assert_allclose(
        arm.run(engine, {"x/in:0": X})["y"], expected, rtol=0, atol=CLOSE * np.abs(expected).max()
    )
    described = [{"name": "x/in:0", "shape": ["N", 3, 8, 8], "dtype": "float32"}]
    assert arm.describe(engine) == arm.describe(model) == described


def test_a_profile_is_parsed_and_no_database_takes_it(arm: Connection, model: Path, tmp_path: Path) -> None:
    profile = arm.profile(model, shapes={"x/in:0": X.shape}, runs=3)
    assert profile.kernels[0].inputs == ("x/in:0",)
    assert profile.kernels[0].input_shapes == (X.shape,)
    assert profile.kernels[-1].outputs == ("y",)
    assert {len(kernel.samples_ns) for kernel in profile.kernels} == {3}
    assert len(profile.end_to_end.samples_ns) == 3
    nodes = {node.name for node in onnx.load(model).graph.node}
    computed = [name for kernel in profile.kernels for name in kernel.nodes]
    assert set(computed) == nodes
    store = ProfileStore(tmp_path / "profiles.sqlite")
    with pytest.raises(BadInput, match=r"^[^\n]*emulated device[^\n]*refuses them\.$"):
        store.add(rows_of(profile, "emulated"))
    hidden = dataclasses.replace(profile, device=dataclasses.replace(profile.device, emulated=False))
    with pytest.raises(BadInput, match="emulated device"):
        store.add(rows_of(hidden, "emulated"))  # its class says so too
    assert store.summary() == []


def test_a_session_follows_the_protocol_there(arm: Connection, model: Path) -> None:
    session = arm.time(model, quick=True)
    assert session.protocol == "quick"
    assert min(session.samples_ns) > 0


def test_an_error_there_is_one_line_and_the_connection_lives(arm: Connection, model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(CutbackError, match=r"^[^\n]*not a model[^\n]*$"):
        arm.describe(broken)
    unknown = saved(elementwise((1, 4)), tmp_path / "unknown.onnx")
    with pytest.raises(CutbackError, match=r"^[^\n]+$"):
        arm.run(unknown, {})
    assert arm.run(unknown, {"x": np.array([[-1, 0, 1, 2]], np.float32)})["y"].min() == 0


def as_argument(target: Target) -> str:
    fields = ("transport", "address", "config", "folder")
    return "local:" + ",".join(f"{field}={getattr(target, field)}" for field in fields)


def test_measured_times_say_that_they_are_worth_nothing(
    target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved(elementwise((1, 64)), tmp_path / "model.onnx")
    arguments = ["measure", str(model), "--target", as_argument(target), "--quick", "--sessions", "2"]
    assert main(arguments) == 0
    assert EMULATED in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["profile", "prune", "compress"])
def test_what_would_steer_by_these_times_is_refused_in_one_line(
    command: str, target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, made = tmp_path / "model.onnx", tmp_path / "cut.onnx"
    save(networks.residual(), model)
    goal = ["--goal", "latency<=0.5x", "-o", str(made)] if command != "profile" else []
    if command == "compress":
        np.savez(tmp_path / "data.npz", x=np.repeat(X, 4, axis=0), labels=np.arange(8))
        goal += ["--data", str(tmp_path / "data.npz")]
    database = tmp_path / "profiles.sqlite"
    arguments = [command, str(model), *goal, "--target", as_argument(target), "--db", str(database)]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert "is emulated (aarch64)" in line
    assert "Profile on the device itself" in line
    assert ProfileStore(database).summary() == []
    assert not made.exists()


def test_nothing_runs_there_once_the_connection_is_closed(target: Target, model: Path) -> None:
    before = inside(target)
    with connect(target) as opened:
        opened.describe(model)
        assert inside(target) > before
    assert inside(target) == before


def inside(target: Target) -> set[int]:
    """Processes of the device: under the emulator, in mounts that have this test's folder among them."""
    own = "/".join((Path(target.config).parents[1] / "tmp-of-device").parts[-4:])
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            emulated = (folder / "exe").readlink().name == "qemu-aarch64"
            if emulated and own in (folder / "mountinfo").read_text(encoding="utf-8"):
                found.add(int(folder.name))
    return found
