import errno
import hashlib
import json
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.cli.app import COMMANDS, GROUPS
from pipeline.cli.options import parse_factor, parse_numbers, parse_pixels, parse_shapes
from targets.errors import BadInput, GoalNotMet

LEAST = ["compress", "n.onnx", "--goal", "latency<=0.5x", "-o", "o", "--data", "d.npz"]


def write_bundle(folder: Path, drop: float = 0.5) -> Path:
    folder.mkdir()
    report = {
        "latency": {"after": {"high_ms": 2.1}, "ratio": {"value": 2.0, "low": 1.9}},
        "accuracy": {"drop": drop},
        "doubts": ["widths [1, 2] were interpolated"],
    }
    (folder / "report.json").write_text(json.dumps(report))
    digest = hashlib.sha256((folder / "report.json").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"files": {"report.json": digest}}))
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of error; standard output stays empty and the status is 2."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("cutback: error: ")
    return line


@pytest.mark.parametrize("command", [*COMMANDS, *GROUPS])
def test_every_command_has_help_with_an_example(capsys, command):
    assert main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert "Example" in out
    assert f"cutback {command}" in out
    assert err == ""


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f" {command} " in out for command in [*COMMANDS, *GROUPS])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["squeeze"], "No such command 'squeeze'"),
        (["--fast"], "No such option: --fast"),
        (["compress"], "Missing argument 'MODEL'"),
        (["compress", "net.onnx", "-o", "out"], "Missing option '--goal'"),
        (["compress", "net.onnx", "-o", "out", "--goal", "fast"], "--goal: goal 'fast'"),
        (["compress", "net.onnx", "-o", "out", "--goal", "latency<=0.5x", "--floor", "2"], "--floor: should be less"),
        (["compress", "net.onnx", "-o", "out", "--goal", "latency<=0.5x", "--epochs", "3"], "recovery needs data"),
        (
            ["compress", "net.onnx", "-o", "out", "--goal", "latency<=0.5x", "--criterion", "magic"],
            "--criterion: 'magic'",
        ),
        (["compress", "net.onnx", "-o", "out", "--goal", "latency<=0.5x", "--max-drop", "1"], "give `validate`"),
        (["compress", "net.onnx", "-o", "out", "--goal", "latency<=0.5x", "--mean", "a,b"], "--mean 'a,b'"),
        (["compress", "net.onnx", "-o", "out", "--goal", "latency<=0.5x", "--crop", "0"], "--crop '0'"),
        (
            ["compress", "net.onnx", "-o", "out", "--goal", "latency<=0.5x", "--floor", "a*=b"],
            "--floor 'a*=b' is no share",
        ),
        (["prune", "net.onnx", "-o", "o.onnx", "--keep", "0.5", "--floor", "=0.5"], "names no groups before the ="),
        (["sweep", "net.onnx", "--budgets", "0.5x,fast"], "--budgets: 'fast' is no budget"),
        (["sweep", "net.onnx", "--budgets", "0.5x, 0.5x"], "names one twice"),
        (["run", "missing.yaml"], "missing.yaml: the recipe cannot be read"),
        (["inspect", "net.onnx", "--shape", "1,2"], "--shape '1,2' is not NAME=SIZE,SIZE"),
        (["prune", "net.onnx", "-o", "out.onnx"], "either --keep"),
        (["prune", "net.onnx", "-o", "out.onnx", "--keep", "0.5", "--goal", "flops<=0.5x"], "either --keep"),
        (["prune", "net.onnx", "-o", "out.onnx", "--keep", "half"], "--keep"),
        (["prune", "net.onnx", "-o", "out.onnx", "--goal", "fast"], "goal 'fast'"),
        (["prune", "net.onnx", "-o", "out.onnx", "--keep", "0.5", "--scale", "0"], "scale 0.0 cannot divide pixels"),
        (["measure", "net.onnx", "--sessions", "1"], "greater than or equal to 2"),
        (["check", "missing"], "missing is not a bundle"),
        (["check", "missing", "--max-latency", "8"], "'8' is not a duration"),
        (["check", "missing", "--min-speedup", "fast"], "--min-speedup 'fast'"),
        (["report", "missing"], "missing is not a bundle"),
        (["db", "--db", "ftp://nowhere/x"], "ftp"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(capsys, monkeypatch, tmp_path, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_check_prints_pure_json_and_its_status_is_the_verdict(capsys, tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    assert (
        main(["check", str(bundle), "--max-latency", "8ms", "--min-speedup", "1.5x", "--max-drop", "1", "--json"]) == 0
    )
    out, err = capsys.readouterr()
    assert json.loads(out)["failures"] == []
    assert err == ""
    assert main(["check", str(bundle), "--min-speedup", "3", "--json"]) == 1
    assert "1.9x" in json.loads(capsys.readouterr().out)["failures"][0]


def test_check_prints_a_table_without_colour_where_there_is_no_terminal(capsys, tmp_path):
    assert main(["check", str(write_bundle(tmp_path / "bundle", drop=2.0)), "--max-drop", "1"]) == 1
    out = capsys.readouterr().out
    assert "max-drop" in out
    assert "the accuracy drop is 2 points" in out
    assert "widths [1, 2] were interpolated" in out
    assert "\x1b" not in out


def test_an_empty_profile_database_is_said_to_be_empty(capsys, tmp_path):
    path = str(tmp_path / "profiles.sqlite")
    assert main(["db", "--db", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["db", "--db", path]) == 0
    assert "cutback profile" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (BadInput("first line\nsecond line"), 2, "first line\ncutback: error: second line"),
        (GoalNotMet("0.6x was the best"), 1, "0.6x was the best"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to continue"),
        (OSError(errno.ENOSPC, "No space left on device", "out/engine.onnx"), 2, "out/engine.onnx: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), 2, "out: permission denied"),
        (OSError(errno.EROFS, "Read-only file system", "out"), 2, "out: the file system is read-only"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, "torch is not installed. Run: pip install"),
        (MemoryError(), 2, "out of memory"),
        (ZeroDivisionError("division by zero"), 70, "ZeroDivisionError: division by zero; this is a defect of cutback"),
    ],
)
def test_every_error_is_a_clear_line_and_a_status(capsys, monkeypatch, error, status, says):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("pipeline.cli.results.print_json", fail)
    monkeypatch.setattr("pipeline.cli.targets.print_json", fail)
    assert main(["targets", "--json"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"cutback: error: {says}")
    assert "Traceback" not in err


def test_a_traceback_is_shown_when_asked_for(capsys, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("here")

    monkeypatch.setenv("CUTBACK_TRACEBACK", "1")
    monkeypatch.setattr("pipeline.cli.targets.print_json", fail)
    assert main(["targets", "--json"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_flag_reaches_the_recipe_as_the_field_it_stands_for(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("pipeline.cli.compress.finish", lambda recipe, json: seen.append((recipe, json)))
    monkeypatch.chdir(tmp_path)
    command = (
        "compress my.package:net --goal latency<=8ms,params<=2M -o out --target local "
        "--shape image=1,3,32,32 --shape mask=1,1 --example-inputs my.package:inputs "
        "--data train.npz --validate test.npz --metric top5 --max-drop 1.5 "
        "--criterion taylor-gate --normalise max --regularise latency --strength 0.1 --samples 256 "
        "--allocator threshold --floor 0.2 --floor b*=0.5 --rounds 2 --no-vanish "
        "--inexact --include a* --exclude head* --exclude stem --absorb "
        "--batchnorm put-back "
        "--epochs 7 --minutes 3 --batch-size 32 --lr 0.1 --augment flip,crop:4 "
        "--resize 240x320 --crop 224 --scale 1 --mean 0.5 --std 0.2,0.2,0.3 --layout NHWC "
        "--sessions 12 --quick --seed 5 --db sqlite:///p.sqlite --json"
    )
    assert main(command.split()) == 0
    ((recipe, as_json),) = seen
    assert as_json
    assert recipe.model == "my.package:net"
    assert recipe.goal == "latency<=8ms,params<=2M"
    assert recipe.output == tmp_path / "out"
    assert recipe.shapes == {"image": (1, 3, 32, 32), "mask": (1, 1)}
    assert (recipe.data, recipe.validation) == (str(tmp_path / "train.npz"), str(tmp_path / "test.npz"))
    assert (recipe.metric, recipe.max_drop, recipe.example_inputs) == ("top5", 1.5, "my.package:inputs")
    assert (recipe.criterion, recipe.normalisation) == ("taylor-gate", "max")
    assert (recipe.regularisation.cost, recipe.regularisation.strength) == ("latency", 0.1)
    assert (recipe.samples_for_scoring, recipe.allocator, recipe.floor) == (256, "threshold", 0.2)
    assert (recipe.floors, recipe.rounds) == ((("b*", 0.5),), 2)
    assert (recipe.allow_vanish, recipe.include_inexact, recipe.absorb) == (False, True, True)
    assert (recipe.include, recipe.exclude) == (("a*",), ("head*", "stem"))
    assert recipe.batchnorm == "put-back"
    assert recipe.recovery is not None
    assert (recipe.recovery.epochs, recipe.recovery.minutes, recipe.recovery.batch_size) == (7, 3.0, 32)
    assert (recipe.recovery.learning_rate, recipe.recovery.augmentation) == (0.1, ("flip", "crop:4"))
    assert recipe.recovery.seed == 5
    assert recipe.preprocessing is not None
    assert (recipe.preprocessing.resize, recipe.preprocessing.crop) == ((240, 320), 224)
    assert (recipe.preprocessing.scale, recipe.preprocessing.mean) == (1.0, (0.5,))
    assert (recipe.preprocessing.std, recipe.preprocessing.layout) == ((0.2, 0.2, 0.3), "NHWC")
    assert (recipe.sessions, recipe.quick, recipe.seed, recipe.db) == (12, True, 5, "sqlite:///p.sqlite")


def test_no_recovery_trains_nothing_though_there_is_data(monkeypatch):
    seen = []
    monkeypatch.setattr("pipeline.cli.compress.finish", lambda recipe, json: seen.append(recipe))
    assert main([*LEAST, "--epochs", "3", "--no-recovery"]) == 0
    assert seen[0].recovery is None


def test_least_command_makes_the_least_recipe(monkeypatch, tmp_path):
    from pipeline.recipe import make_recipe

    seen = []
    monkeypatch.setattr("pipeline.cli.compress.finish", lambda recipe, json: seen.append(recipe))
    monkeypatch.chdir(tmp_path)
    assert main(LEAST) == 0
    fields = {"model": "n.onnx", "goal": "latency<=0.5x", "output": "o", "data": "d.npz"}
    assert seen == [make_recipe(fields, base=tmp_path, source="test")]


def test_a_recipe_file_is_run(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("pipeline.cli.compress.finish", lambda recipe, json: seen.append(recipe))
    (tmp_path / "r.yaml").write_text("{model: n.onnx, goal: latency<=0.5x, output: out}")
    assert main(["run", str(tmp_path / "r.yaml")]) == 0
    assert seen[0].output == tmp_path / "out"


def test_shapes_are_read_by_name():
    assert parse_shapes(["x=1,3,224,224", "mask = 1, 7"]) == {"x": (1, 3, 224, 224), "mask": (1, 7)}
    assert parse_shapes(["scope/x:0=2"]) == {"scope/x:0": (2,)}
    assert parse_shapes(None) == {}


@pytest.mark.parametrize("text", ["", "x", "x=", "=1,2", "x=1,,2", "x=0,3", "x=-1,3", "x=1x3", "x=1.5", "x=²"])
def test_a_shape_that_is_none_is_refused(text):
    with pytest.raises(BadInput, match="--shape"):
        parse_shapes([text])


def test_a_shape_is_given_once():
    with pytest.raises(BadInput, match="'x' twice"):
        parse_shapes(["x=1", "x=2"])


def test_numbers_pixels_and_factors_are_read():
    assert parse_numbers("0.5, 1e-1", "--mean") == (0.5, 0.1)
    assert parse_pixels("256", "--resize") == 256
    assert parse_pixels("240x320", "--resize") == (240, 320)
    assert parse_factor("1.5X", "--min-speedup") == 1.5


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "x"])
def test_a_factor_is_above_zero_and_finite(text):
    with pytest.raises(BadInput, match="--min-speedup"):
        parse_factor(text, "--min-speedup")


def test_progress_off_a_terminal_is_lines_on_standard_error(capsys):
    from pipeline.cli.progress import progress

    with progress() as show:
        show(1, 4, "timing [a]")
        show(2, 4, "timing [a]")
        show(3, 4, "timing [b]")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "cutback: timing [a] (1/4)\n"  # the others came too soon after it


def test_json_has_null_where_a_number_is_not_finite(capsys):
    from pipeline.cli.output import print_json

    print_json({"gap": float("inf"), "values": (1, float("nan"), 2.5), "text": "NaN"})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "gap": None,
        "values": [1, None, 2.5],
        "text": "NaN",
    }
