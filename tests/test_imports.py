import subprocess
import sys
from pathlib import Path

import pytest

import pipeline

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "scipy", "matplotlib", "PIL", "sqlalchemy")

LOADED = """
import sys
from pipeline.cli import main
status = main({arguments!r})
print(status, *sorted(set({heavy!r}) & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["compress", "--help"],
        ["measure", "--help"],
        ["db", "stairs", "--help"],
        ["targets"],
        ["targets", "doctor", "--help"],
        ["compress"],
    ],
)
def test_help_and_usage_errors_import_nothing_heavy(arguments):
    code = LOADED.format(arguments=arguments, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    status, *loaded = done.stderr.splitlines()[-1].split()
    assert loaded == []
    assert status == ("2" if arguments == ["compress"] else "0")


def test_importing_pipeline_imports_nothing():
    code = f"import pipeline, sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_cut_by_weights_needs_no_torch():
    code = "import pipeline.prune, pipeline.inspect, pipeline.check, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_imports_point_one_way():
    import tomllib

    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert contracts[0]["layers"] == ["pipeline", "calibration", "targets"]
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == EXIT_STATUS_SUCCESS


def test_every_function_carries_the_name_of_its_command():
    from pipeline.check import check

    assert pipeline.check is check  # and not the module of the same name, which the line above has imported
    assert set(pipeline.__all__) <= set(dir(pipeline))


@pytest.mark.parametrize("name", [name for name in pipeline.__all__ if name != "Recipe"])
def test_every_exported_name_is_a_function(name):
    assert callable(getattr(pipeline, name))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'squeeze'"):
        _ = pipeline.squeeze
