"""`cutback measure` and the A/A benchmark, as they are called."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks import aa
from pipeline.cli import main
from pipeline.measure import compared
from targets import selftest
from targets.errors import BadInput
from targets.measurement import Measurement, Session
from targets.selftest import Tally
from tests.targets.models import elementwise, saved
from tests.targets.test_measurement import DEVICE


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(elementwise((1, 64)), tmp_path_factory.mktemp("measuring") / "model.onnx")


def test_a_quick_comparison_says_so_at_every_number(model, capsys):
    arguments = ["measure", str(model), str(model), "--quick", "--sessions", "2"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["quick"] is True
    assert [each["quick"] for each in found["models"]] == [True, True]
    assert [each["quick"] for each in found["ratios"]] == [True]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "Latency, by the quick protocol" in out
    (verdict,) = [line for line in out.splitlines() if " against " in line]
    assert verdict.endswith("(quick)")


def test_models_are_compared_across_runtimes_of_one_device(model, capsys):
    """Two targets that are here wherever ONNX Runtime is; what stands for the device is the same."""
    arguments = ["measure", str(model), str(model), "--quick", "--sessions", "2", "--target", "local", "--target"]
    assert main([*arguments, "local-ort", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    pairs = [(str(model), target) for _ in range(2) for target in ("local", "local-ort")]
    assert [(each["path"], each["target"]) for each in found["models"]] == pairs
    assert [each["runtime"] for each in found["models"]] == ["onnxruntime", "ort"] * 2
    assert [(each["path"], each["target"]) for each in found["ratios"]] == pairs[1:]
    assert all(each["value"] > 0 and "because" not in each for each in found["ratios"])


def test_no_ratio_is_given_where_regimes_differ_and_a_line_says_why(model, capsys):
    arguments = ["measure", str(model), "--quick", "--sessions", "2", "--target", "local", "--target"]
    assert main([*arguments, "local:regime=locked"]) == 0
    out = capsys.readouterr().out
    (verdict,) = [line for line in out.splitlines() if " against " in line]
    assert f"{model} on local:regime=locked against {model} on local: " in verdict
    assert "regime differs" in verdict
    assert "onnxruntime" in out


def test_different_devices_have_times_and_no_ratio():
    sessions = (Session((100, 101), 10), Session((99, 100), 10))
    here, there = (Measurement(sessions, replace(DEVICE, device_class={"cpu": cpu})) for cpu in ("one", "other"))
    assert compared(here, here)["value"] == pytest.approx(1.0)
    told = compared(here, there)
    assert told["value"] is None
    assert "device_class differs" in told["because"]


def test_a_self_test_shows_its_claims_and_what_chance_allows(model, capsys):
    arguments = ["measure", str(model), "--self-test", "--repeat", "2", "--quick", "--sessions", "2"]
    status = main([*arguments, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert status == (0 if found["passed"] else 1)
    assert found["count"] == len(found["tests"]) == 2
    assert found["claims"] == sum(test["verdict"] != "inconclusive" for test in found["tests"])
    assert (found["expected"], found["allowed"]) == (pytest.approx(0.02), 0)
    assert found["quick"] is True
    main(arguments)
    assert "of 2 self-tests claim a difference that is not there" in capsys.readouterr().out


def test_more_claims_than_chance_allows_are_status_1(model, capsys, monkeypatch):
    """A device that claims differences cannot be had on demand; the count is."""
    home = import_module("pipeline.measure")
    monkeypatch.setattr(home, "tally", lambda count, claims: Tally(count, 1, 0.99, 0.01, 0, 0.025, 1.0))
    assert main(["measure", str(model), "--self-test", "--quick", "--sessions", "2"]) == 1
    assert "failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.onnx", "b.onnx", "--self-test"], "Give one"),
        (["a.onnx", "--repeat", "3"], "Add --self-test"),
        (["a.onnx", "--self-test", "--target", "local", "--target", "local-ort"], "one target"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments, says, capsys):
    assert main(["measure", *arguments]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.slow
def test_the_benchmark_goes_on_where_it_was_stopped(model, tmp_path, capsys, monkeypatch):
    output = tmp_path / "aa.jsonl"
    monkeypatch.setattr(selftest, "TOO_RARE", 0.0)  # the model is far too small to be timed well: no exit status here
    arguments = ["--model", str(model), "--sessions", "2", "--output", str(output)]
    aa.main([*arguments, "--tests", "2"])
    first = output.read_text()
    output.write_text(first + '{"cut sho')
    aa.main([*arguments, "--tests", "3"])
    assert output.read_text().startswith(first)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["seed"] for row in rows] == [0, 1, 2]
    out = capsys.readouterr().out
    assert "of 3 claim a difference" in out
    assert out.splitlines()[-1].startswith("| model.onnx | quick | 2 | 3 |")
    with pytest.raises(BadInput, match="another setting"):
        aa.main([*arguments, "--sessions", "3"])
