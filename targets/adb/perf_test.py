"""ONNX Runtime's own `onnxruntime_perf_test`, as its sources have it since 1.0 (onnxruntime/test/perftest).

    onnxruntime_perf_test [options] MODEL RESULTS      inputs from test_data_set_0/input_N.pb beside the model

RESULTS gets a line for each run, `name,seconds,peak memory,share of the processor,number`, after one run that is not
told. With -p it writes ONNX Runtime's own trace of every node. It shows no outputs.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from targets.adb.benchmark import Benchmark, Feeds, Installed, last_words
from targets.errors import BadInput, TargetError
from targets.protocol import one_line
from targets.runtimes import Reads
from targets.runtimes.onnx_inputs import specs_of
from targets.runtimes.onnxruntime import NEWEST, OLDEST, RELU, read_trace

RESULTS, TRACE, GRAPH = "results.csv", "trace", "graph.onnx"
UNTOLD = 1  # runs before the first that is told
MOST_TOLD_BYTES, MOST_TRACE_BYTES, MOST_GRAPH_BYTES = 16 << 20, 512 << 20, 2 << 30
ASKED_S = 30.0

OPSET = re.compile(r"Current official support for domain ai\.onnx is till opset ([0-9]{1,3})\b")
IR = re.compile(r"max supported IR version: ([0-9]{1,3})\b")
TOLD = re.compile(r"(.*,)?(?P<seconds>[0-9.e+-]+),[0-9]+,-?[0-9]+,[0-9]+")


def start(installed: Installed, folder: Path) -> "PerfTest":
    return PerfTest(installed, folder)


class PerfTest(Benchmark):
    single_runs = True

    def __init__(self, installed: Installed, folder: Path) -> None:
        """`folder`: for our own files here."""
        self._installed = installed
        self._folder = folder
        self._refusal = "nothing."  # what the program said last

    def stack(self) -> dict[str, Any]:
        options = {
            "optimisation": "all",
            "execution": "sequential",
            "inter_op": 1,
            "benchmark": "onnxruntime_perf_test",
        }
        return {
            "runtime": "onnxruntime",
            "version": f"binary {self._installed.version}",
            "provider": "CPUExecutionProvider",
            "options": options,
        }

    def reads(self) -> Reads:
        """It is asked, with the smallest model there is, as `targets.runtimes.onnxruntime` asks the package."""
        if not self._takes(OLDEST.opset, OLDEST.ir):
            raise TargetError(
                f"{self._installed.phone.adb.name}: the benchmark does not run the smallest model there is: "
                f"{self._refusal} Is it onnxruntime_perf_test, built for this phone?"
            )
        said = self._says_limits()
        if said is not None and self._takes(*said):
            return said
        opset = newest(OLDEST.opset, NEWEST.opset, lambda number: self._takes(number, OLDEST.ir))
        return Reads(opset, newest(OLDEST.ir, NEWEST.ir, lambda number: self._takes(OLDEST.opset, number)))

    def _says_limits(self) -> Reads | None:
        """What it names as its limits when it refuses what is far beyond them."""
        found = []
        for asked, limit in ((Reads(NEWEST.opset, OLDEST.ir), OPSET), (Reads(OLDEST.opset, NEWEST.ir), IR)):
            named = None if self._takes(*asked) else limit.search(self._refusal)
            if named is None:
                return None
            found.append(int(named[1]))
        return Reads(*found)

    def inputs(self, model: Path) -> list[dict[str, Any]]:
        try:
            return specs_of(onnx.load(model, load_external_data=False).graph)
        except Exception as failure:  # protobuf's own errors
            raise BadInput(f"{model.name} is not a model that ONNX can read: {one_line(str(failure))}") from failure

    def build(self, model: Path, output: Path) -> None:
        """The graph as it is: the runtime optimises it as it loads."""
        self.inputs(model)
        beside = output.with_name(output.name + ".part")
        beside.write_bytes(model.read_bytes())
        beside.replace(output)

    def run(self, model: Path, feeds: Feeds, limit_s: float) -> dict[str, NDArray[Any]]:
        raise TargetError(
            "onnxruntime_perf_test shows no outputs: what the network computes on this phone cannot be seen. Measure "
            "and profile with it; to run a network use Python on the phone, or the runtime mnn."
        )

    def time(self, model: Path, feeds: Feeds, runs: int, limit_s: float) -> list[int]:
        self._run(model, feeds, ["-r", str(runs)], limit_s)
        return self._told(runs)

    def profile(self, model: Path, feeds: Feeds, runs: int, graph: Path, limit_s: float) -> list[dict[str, Any]]:
        self._run(model, feeds, ["-r", str(runs), "-p", TRACE, "-u", GRAPH], limit_s)
        phone = self._installed.phone
        traces = [name for name in phone.names() if name.startswith(f"{TRACE}_") and name.endswith(".json")]
        if len(traces) != 1:
            raise TargetError(f"{phone.adb.name}: the benchmark has left no trace of its nodes. Is profiling built in?")
        trace = self._folder / "trace.json"
        try:
            phone.fetch(traces[0], trace, MOST_TRACE_BYTES)
            kernels = read_trace(trace, [UNTOLD + run for run in range(runs)])
        finally:
            trace.unlink(missing_ok=True)
        phone.fetch(GRAPH, graph, MOST_GRAPH_BYTES)
        return kernels

    def _run(self, model: Path, feeds: Feeds, options: list[str], limit_s: float) -> None:
        installed = self._installed
        places = {"model/model.onnx": installed.phone.store(model)}
        places.update(self._written(feeds))
        words = ["-e", "cpu", "-m", "times", "-x", str(installed.threads), "-y", "1", "-o", "99", *options]
        ran = installed.run(places, [*words, "model/model.onnx", RESULTS], limit_s)
        self._refusal = last_words(ran)
        if ran.status != 0:
            raise TargetError(f"onnxruntime_perf_test cannot run {model.name} (status {ran.status}): {self._refusal}")

    def _written(self, feeds: Feeds) -> Mapping[str, str]:
        """place -> stored name of each input, as a serialised tensor."""
        places = {}
        for number, (name, values) in enumerate(feeds.items()):
            path = self._folder / f"input_{number}.pb"
            path.write_bytes(numpy_helper.from_array(values, name).SerializeToString())
            places[f"model/test_data_set_0/input_{number}.pb"] = self._installed.phone.store(path)
        return places

    def _told(self, runs: int) -> list[int]:
        path = self._folder / RESULTS
        try:
            self._installed.phone.fetch(RESULTS, path, MOST_TOLD_BYTES)
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        finally:
            path.unlink(missing_ok=True)
        found = [TOLD.fullmatch(line) for line in lines]
        times = [round(float(each["seconds"]) * 1e9) for each in found if each]
        if len(times) != runs or min(times) <= 0:
            raise TargetError(
                f"{self._installed.phone.adb.name}: onnxruntime_perf_test was to tell {runs} times and told "
                f"{len(times)}. Its output is not what this version of cutback knows."
            )
        return times

    def _takes(self, opset: int, ir: int) -> bool:
        import numpy as np

        path = self._folder / f"relu-{opset}-{ir}.onnx"
        path.write_bytes(bytes([8, ir, 0x3A, len(RELU)]) + RELU + bytes([0x42, 4, 0x0A, 0, 0x10, opset]))
        try:
            self._run(path, {"x": np.zeros(1, np.float32)}, ["-r", "1"], ASKED_S)
        except TargetError as refusal:
            if type(refusal) is not TargetError:
                raise
            return False
        finally:
            path.unlink()
        return True


def newest(known: int, limit: int, takes: object) -> int:
    """The largest number up to `limit` that `takes`, which says yes up to some number and no from there; `known` is
    taken."""
    assert callable(takes)
    low, high = known, limit + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(middle) else (low, middle)
    return low
