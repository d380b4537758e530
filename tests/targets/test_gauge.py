"""The gauge: one network for all profiles."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from targets.connection import Connection, connect
from targets.copies import GAUGE
from targets.gauge import NARROW, SIDE, WIDE, write_gauge
from targets.pairing import GAUGE_RUNS
from targets.target import Target


def test_it_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    first, second = write_gauge(tmp_path / "one.onnx"), write_gauge(tmp_path / "two.onnx")
    assert first.read_bytes() == second.read_bytes()
    onnx.checker.check_model(onnx.load(first), full_check=True)


def test_it_runs_on_the_device(connection: Connection, tmp_path: Path) -> None:
    path = write_gauge(tmp_path / "gauge.onnx")
    x = np.random.default_rng(0).standard_normal((1, NARROW, SIDE, SIDE)).astype(np.float32)
    expected = ReferenceEvaluator(onnx.load(path)).run(["y"], {"x": x})
    got = connection.run(path, {"x": x})["y"]
    assert got.shape == (1, WIDE, SIDE, SIDE)
    assert isinstance(expected, list)
    np.testing.assert_allclose(got, expected[0], rtol=1e-3, atol=1e-4)


def test_one_file_serves_all_profiles_and_is_gone_with_the_connection(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Path] = []
    with connect(Target("local")) as opened:
        put = opened._link.put

        def spied(path: Path) -> str:
            sent.append(path)
            return put(path)

        monkeypatch.setattr(opened._link, "put", spied)
        for runs in (2, 3):
            profile = opened.profile(model, runs=runs)
            assert len(profile.gauge_ns) == GAUGE_RUNS * runs
            assert min(profile.gauge_ns) > 0
        (gauge,) = {path for path in sent if path.name == GAUGE}
        assert gauge.exists()
    assert not gauge.parent.exists()
