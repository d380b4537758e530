"""Runtimes that build engines for devices that are not here."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.graph.couple import couple
from pipeline.graph.cut import cut
from pipeline.graph.model import Model, from_proto, save
from targets.connection import Connection, connect
from targets.errors import BadInput, TargetError
from targets.target import find_target
from tests.targets.models import elementwise, residual, saved
from tests.targets.precisions import int8

CAPABILITIES = ("80", "86", "89", "120")
MADE = ("as it is", "cut", "int8", "cut and int8")


@pytest.fixture(scope="module")
def builder() -> Iterator[Connection]:
    pytest.importorskip("tensorrt_rtx", reason="not installed: pip install 'cutback[tensorrt-rtx]'")
    with connect(find_target("local-tensorrt-rtx")) as opened:
        yield opened


def plain() -> Model:
    return from_proto(residual())


def half() -> Model:
    """Every second channel of every group, of the whole network."""
    model = plain()
    channels = couple(model)
    kept = {group.id: tuple(range(0, group.channels, 2)) for group in channels.groups if group.locked_because is None}
    small = cut(model, channels, kept)
    assert kept
    assert weights_of(small) < weights_of(model)
    return small


def quantised() -> Model:
    model = int8(plain(), "tensorrt-rtx")
    assert any(node.op_type == "QuantizeLinear" for node in model.proto.graph.node)
    return model


def weights_of(model: Model) -> int:
    return sum(len(tensor.raw_data) for tensor in model.proto.graph.initializer)


@pytest.mark.parametrize("made", [plain, half, quantised, lambda: int8(half(), "tensorrt-rtx")], ids=MADE)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_builds_repeat_to_the_byte_for_every_compute_capability(
    tmp_path: Path, capability: str, made: Callable[[], Model]
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="not installed: pip install 'cutback[tensorrt-rtx]'")
    model = tmp_path / "m.onnx"
    save(made(), model)
    with connect(find_target(f"local-tensorrt-rtx:sm={capability}")) as builder:
        assert builder.device.stack["provider"] == f"sm_{capability}"
        first, second = (builder.build(model, tmp_path / name) for name in "ab")
    assert first.sha256 == second.sha256
    assert first.path.stat().st_size > 1000


def test_a_jetson_is_sent_to_its_own_tensorrt() -> None:
    pytest.importorskip("tensorrt_rtx", reason="not installed: pip install 'cutback[tensorrt-rtx]'")
    with pytest.raises(BadInput, match=r"not for 87.*Jetsons"), connect(find_target("local-tensorrt-rtx:sm=87")):
        pass


def test_running_is_refused_and_says_where_it_would_run(builder: Connection, tmp_path: Path) -> None:
    model = saved(elementwise((1, 4)), tmp_path / "m.onnx")
    with pytest.raises(TargetError, match=r"cannot run here.*cutback build"):
        builder.time(model, quick=True)


def test_garbage_is_refused_although_it_parses(builder: Connection, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("This is no model.\n" * 100)
    with pytest.raises((BadInput, TargetError), match=r"^[^\n]*m\.onnx[^\n]*$"):
        builder.build(path, tmp_path / "engine")
    assert not list(tmp_path.glob("engine*"))


def test_without_a_gpu_tensorrt_is_refused_before_it_is_imported() -> None:
    try:
        with connect(find_target("local-tensorrt")):
            pytest.skip("there is a GPU here")
    except TargetError as refusal:
        assert "needs an NVIDIA GPU" in str(refusal)  # noqa: PT017 -- where there is one, nothing is raised
