"""What is sent to a device must run there: Python 3.8, the standard library, and the runtime with its numpy."""

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import targets
from targets.archive import AGENT, CONDITIONS, MAIN, STANDALONE, write_agent, write_standalone

ROOT = Path(targets.__file__).parent
HOST_RUNTIMES = ("foreign_graph", "join_by_names", "onnx_graph")  # beside the joins: host side, and sent along unused
DEVICE_RUNTIMES = [
    f"runtimes/{path.name}"
    for path in sorted((ROOT / "runtimes").glob("*.py"))
    if path.stem not in HOST_RUNTIMES and not path.stem.endswith("_kernels")
]
DEVICE_SIDE = [ROOT / name for name in sorted({*AGENT, *STANDALONE, *DEVICE_RUNTIMES})]
PACKAGES = ("MNN", "_tools", "executorch", "ncnn", "onnx", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")
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


@pytest.mark.parametrize("names", [STANDALONE, (*AGENT, *DEVICE_RUNTIMES)])
def test_what_is_sent_as_one_file_imports_nothing_but_itself(names: tuple[str, ...]) -> None:
    sent = {f"targets.{name.removesuffix('.py').replace('/', '.').removesuffix('.__init__')}" for name in names}
    for name in names:
        own = {each for each in imported(ast.parse((ROOT / name).read_text())) if each.startswith("targets.")}
        assert own <= sent, name


def test_what_is_sent_to_a_device_has_all_that_its_agent_can_import(tmp_path: Path) -> None:
    for write in (write_agent, write_standalone):
        write(tmp_path / "sent.pyz")
        with zipfile.ZipFile(tmp_path / "sent.pyz") as archive:
            sent = {name for name in archive.namelist() if name.startswith("targets/")}
            texts = {name: archive.read(name).decode() for name in sent if (ROOT.parent / name) in DEVICE_SIDE}
        known = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in sent}
        assert texts
        for name, text in texts.items():
            assert {each for each in imported(ast.parse(text)) if each.startswith("targets.")} <= known, name


def test_every_source_of_conditions_is_sent() -> None:
    assert {f"conditions/{path.name}" for path in (ROOT / "conditions").glob("*.py")} == set(CONDITIONS)


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
