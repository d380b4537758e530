"""Runtimes that build engines for devices that are not here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from targets.connection import Connection, connect
from targets.errors import BadInput, TargetError
from targets.target import find_target
from tests.targets.models import elementwise, residual, saved

CAPABILITIES = ("80", "86", "89", "120")


@pytest.fixture(scope="module")
def builder() -> Iterator[Connection]:
    pytest.importorskip("tensorrt_rtx", reason="not installed: pip install 'cutback[tensorrt-rtx]'")
    with connect(find_target("local-tensorrt-rtx")) as opened:
        yield opened


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_builds_repeat_to_the_byte_for_every_compute_capability(tmp_path: Path, capability: str) -> None:
    pytest.importorskip("tensorrt_rtx", reason="not installed: pip install 'cutback[tensorrt-rtx]'")
    model = saved(residual(), tmp_path / "m.onnx")
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
