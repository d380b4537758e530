"""The whole way on ExecuTorch, which tells no kernel times: profiled, solved, built, measured."""

from pathlib import Path

import onnx
import pytest

from pipeline.cli import main
from pipeline.graph.flops import paper_cost
from pipeline.graph.model import load
from pipeline.latency import design, few_widths
from pipeline.stages import trying
from tests.latency.networks import built, conv, head, relu

WIDTH = 128


def wide(path: Path) -> Path:
    """Two wide convolutions: most of the time is theirs, so that a cut of them is seen."""
    nodes = [
        conv("x", "stem"), relu("stem", "stem.out"), conv("stem.out", "body"), relu("body", "last"), *head("last"),
    ]  # fmt: skip
    shapes = {"stem.w": (WIDTH, 3, 3, 3), "body.w": (WIDTH, WIDTH, 3, 3), "y.w": (WIDTH, 10), "y.b": (10,)}
    onnx.save(built(nodes, shapes).proto, path)
    return path


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_goal_is_met_on_executorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("executorch")
    monkeypatch.setattr(design, "FEWEST_PLANS", 12)
    monkeypatch.setattr(design, "PLANS_PER_CANDIDATE", 0)
    monkeypatch.setattr(few_widths, "MOST_BUILDS", 18)
    monkeypatch.setattr(trying, "SESSIONS", 4)
    monkeypatch.setattr(trying, "MOST_BATCHES", 2)
    network, output = wide(tmp_path / "net.onnx"), tmp_path / "cut.onnx"
    status = main([
        "prune", str(network), "-o", str(output), "--goal", "latency<=0.7x", "--target", "local-executorch",
        "--db", str(tmp_path / "own.sqlite"),
    ])  # fmt: skip
    told = capsys.readouterr()
    assert status == 0, told.err
    assert "end-to-end times" in " ".join(told.out.split())
    assert paper_cost(load(output)).flops < paper_cost(load(network)).flops
