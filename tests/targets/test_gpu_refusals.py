"""What TensorRT's file and the GPU's say where there is none, or not the right one.

A driver of a dozen lines, compiled here under the real one's name, stands for machines that are not here: it is loaded
as any driver is, and its memory is the processor's.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from targets.connection import connect
from targets.errors import BadInput, RuntimeMissing, TargetError
from targets.runtimes import open_runtime
from targets.runtimes.cuda import DRIVER
from targets.runtimes.tensorrt import TensorRt, unreadable
from targets.target import find_target
from tests.targets.models import elementwise, saved

SOURCE = """
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int number) { *device = 7; return number; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "A made-up GPU", size); return device != 7; }
int cuDeviceGetAttribute(int *found, int which, int device) { *found = which == 75 ? 8 : 7; return device != 7; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = malloc(1); return device != 7; }
int cuCtxSetCurrent(void *context) { return context == 0; }
int cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(1); return 0; }
int cuMemAlloc_v2(uint64_t *address, size_t size) {
  if (size > 1 << 20) return 2;
  *address = (uint64_t)malloc(size);
  return 0;
}
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size) { memcpy((void *)to, from, size); return 0; }
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) { memcpy(to, (void *)from, size); return 0; }
int cuStreamSynchronize(void *stream) { return stream == 0; }
"""

OPEN = """
import sys
from targets.errors import CutbackError
from targets.runtimes import open_runtime
try:
    open_runtime("tensorrt", 1, {})
except CutbackError as refusal:
    print(type(refusal).__name__, refusal)
"""
MEMORY = """
import numpy as np
from targets.errors import TargetError
from targets.runtimes.cuda import WithDriver, open_gpu
gpu = open_gpu("A test")
values = np.arange(6, dtype=np.float32).reshape(2, 3)
address = gpu.allocate(values.nbytes)
gpu.upload(address, values)
gpu.wait()
found = np.zeros_like(values)
gpu.download(found, address)
print(type(gpu).__name__, gpu.name, gpu.capability, gpu.stream != 0, np.array_equal(found, values))
try:
    gpu.allocate(1 << 30)
except TargetError as refusal:
    print(refusal)
"""


def driver(folder: Path, init: int = 0, count: int = 1) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to make a driver with")
    (folder / "driver.c").write_text(SOURCE)
    given = [f"-DINIT={init}", f"-DCOUNT={count}", "driver.c", "-o", DRIVER]
    subprocess.run([compiler, "-shared", "-fPIC", *given], cwd=folder, check=True)
    return folder


def said(script: str, libraries: Path, *packages: Path) -> list[str]:
    """The lines of a Python that finds these libraries and packages before all others."""
    root = Path(__file__).parents[2]
    environment = {"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": os.pathsep.join(map(str, (*packages, root)))}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def package(folder: Path, version: str) -> Path:
    (folder / "tensorrt.py").write_text(f"__version__ = {version!r}\n")
    return folder


def test_without_a_driver_the_library_that_is_missing_is_named() -> None:
    try:
        with connect(find_target("local-tensorrt")):
            pytest.skip("there is a GPU here")
    except RuntimeMissing:
        pytest.skip("there is a GPU here, and no TensorRT")
    except TargetError as refusal:
        assert str(refusal).startswith("TensorRT needs an NVIDIA GPU")  # noqa: PT017 -- a GPU would raise nothing


@pytest.mark.parametrize(
    ("init", "count", "says"),
    [
        (100, 0, "TensorRT needs an NVIDIA GPU, and the driver finds none here."),
        (0, 0, "TensorRT needs an NVIDIA GPU, and the driver finds none here."),
        (999, 1, "TensorRT needs an NVIDIA GPU; the driver here fails with CUDA error 999."),
    ],
)
def test_a_driver_without_a_gpu_is_refused_before_tensorrt_is_imported(
    tmp_path: Path, init: int, count: int, says: str
) -> None:
    (tmp_path / "tensorrt.py").write_text("raise SystemExit('imported')")
    assert said(OPEN, driver(tmp_path, init, count), tmp_path) == [f"TargetError {says}"]


def test_the_refusal_comes_through_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver(tmp_path, init=3)))
    with pytest.raises(TargetError, match="fails with CUDA error 3"), connect(find_target("local-tensorrt")):
        pass


def test_with_a_gpu_and_no_tensorrt_it_says_where_tensorrt_comes_from(tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('no libnvinfer')")
    (line,) = said(OPEN, driver(tmp_path), tmp_path)
    assert line.startswith(f"RuntimeMissing TensorRT cannot be imported by {sys.executable} (no libnvinfer).")
    assert "On a Jetson it comes with JetPack" in line
    assert "pip install tensorrt" in line


def test_tensorrt_that_is_too_old_is_refused_with_the_jetpack_that_is_not(tmp_path: Path) -> None:
    (line,) = said(OPEN, driver(tmp_path), package(tmp_path, "8.2.1.8"))
    assert line.startswith("RuntimeMissing TensorRT 8.2.1.8 is too old: 8.5 is the oldest that is supported.")
    assert "JetPack 5.1" in line


def test_memory_comes_from_the_driver_itself_where_no_package_brings_it(tmp_path: Path) -> None:
    for name in ("pycuda", "cuda"):  # as if neither were installed
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    one, two = said(MEMORY, driver(tmp_path), tmp_path)
    assert one == "WithDriver A made-up GPU 8.7 True True"
    assert two == "The GPU fails: cuMemAlloc_v2 answers with CUDA error 2. Look at the driver's log there."


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision": "fp16"}, "The runtime tensorrt has no option 'precision'. It has: dla."),
        ({"dla": "first"}, "dla=first is no number of a deep learning accelerator, such as 0."),
        ({"dla": -1}, "dla=-1 is no number of a deep learning accelerator, such as 0."),
    ],
)
def test_options_are_refused_before_a_gpu_is_looked_for(options: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=f"^{says}$"):
        open_runtime("tensorrt", 1, options)


def test_what_nvidias_parser_cannot_take_is_told_with_its_node(tmp_path: Path) -> None:
    package = pytest.importorskip("tensorrt_rtx", reason="not installed: pip install 'cutback[tensorrt-rtx]'")
    unknown = elementwise((1, 4))
    unknown.graph.node[0].op_type, unknown.graph.node[0].domain = "Squeezer", "of.nobody"
    unknown.opset_import.append(onnx.helper.make_opsetid("of.nobody", 1))
    garbage = tmp_path / "garbage.onnx"
    garbage.write_text("This is no model.\n" * 100)
    told = {}
    log = package.Logger(package.Logger.INTERNAL_ERROR)
    for path in (saved(unknown, tmp_path / "unknown.onnx"), garbage):
        builder = package.Builder(log)
        network = builder.create_network(0)
        parser = package.OnnxParser(network, log)
        parser.parse_from_file(str(path))
        told[path.name] = unreadable(path.name, parser)
        del parser, network, builder  # in this order, or the package ends the process
    assert isinstance(told["unknown.onnx"], TargetError)
    assert str(told["unknown.onnx"]).startswith("TensorRT cannot take unknown.onnx: node 0: ")
    assert isinstance(told["garbage.onnx"], BadInput)
    assert str(told["garbage.onnx"]) == "garbage.onnx is not a model that TensorRT can read."


def test_an_accelerator_that_is_not_there_is_refused_and_not_left_to_the_gpu() -> None:
    package = pytest.importorskip("tensorrt_rtx", reason="not installed: pip install 'cutback[tensorrt-rtx]'")

    class Rtx:  # its builder has no accelerators, as a desktop's has none
        __version__ = "10.0"
        Logger = package.Logger

    log = package.Logger(package.Logger.ERROR)
    runtime = TensorRt(Rtx, None, 1, 0)  # type: ignore[arg-type]  # no GPU is reached
    with pytest.raises(TargetError, match="This device has 0 DLA cores; option dla=0 asks for another"):
        runtime._onto_dla(None, package.Builder(log))
