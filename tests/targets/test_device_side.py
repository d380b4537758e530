"""What is sent to a device must run there: Python 3.8, the standard library, and the runtime with its numpy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import targets
from targets.archive import MAIN, STANDALONE

ROOT = Path(targets.__file__).parent
DEVICE_SIDE = [
    *(ROOT / name for name in ("__init__.py", "errors.py", "protocol.py", "agent.py", "worker.py", "timing.py")),
    *(
        ROOT / name
        for name in (
            *(f"{name}.py" for name in ("cache", "host", "lease", "store", "workers")),
            "speed.py",
            "watch.py",
            "load.py",
            "feeds.py",
            "probe.py",
            "pairing.py",
            *(f"{name}.py" for name in ("comparison", "here", "packed", "results", "rounds", "standalone")),
            *(f"profiles/{name}.py" for name in ("__init__", "lines")),
            "runtimes/__init__.py",
            *(f"runtimes/{name}.py" for name in ("cuda", "mnn", "ncnn", "onnx_inputs", "onnxruntime", "openvino")),
            *(f"runtimes/{name}.py" for name in ("onnxruntime_providers", "ort_format", "tensorrt", "tensorrt_rtx")),
        )
    ),
]
PACKAGES = ("MNN", "_tools", "ncnn", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")
OWN = {f"targets.{path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')}" for path in DEVICE_SIDE}


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "targets":
            names |= {f"targets.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", DEVICE_SIDE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_it_parses_as_python_3_8_and_imports_what_a_device_has(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    own = {name.removesuffix(".__init__") for name in OWN}
    for name in imported(tree):
        known = name.partition(".")[0] in {*sys.stdlib_module_names, "numpy", *PACKAGES}
        assert known or name in own, name


def test_what_is_sent_as_one_file_imports_nothing_but_itself() -> None:
    sent = {f"targets.{name.removesuffix('.py').replace('/', '.').removesuffix('.__init__')}" for name in STANDALONE}
    for name in STANDALONE:
        assert ROOT / name in DEVICE_SIDE
        own = {each for each in imported(ast.parse((ROOT / name).read_text())) if each.startswith("targets.")}
        assert own <= sent, name


def test_a_python_that_is_too_old_can_read_the_line_that_says_so() -> None:
    ast.parse(MAIN, feature_version=(3, 4))


def test_the_hosts_side_imports_no_runtime_and_no_torch() -> None:
    script = (
        "import sys, targets.connection, targets.measure, targets.profiles.rows\n"
        "sys.exit(bool({'onnxruntime', 'torch', 'tensorrt'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_naming_a_target_imports_nothing_heavy() -> None:
    script = (
        "import sys, targets.target, targets.errors\n"
        "sys.exit(bool({'numpy', 'scipy', 'onnx', 'sqlalchemy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
