"""MNN's own `ModuleBasic.out`, as its sources have it since 2.0 (tools/cpp/ModuleBasic.cpp).

    ModuleBasic.out MODEL FOLDER MASK FORWARD RUNS THREADS PRECISION

FOLDER holds `input.json` (names and shapes) and a text file of numbers for each input. It runs once, writes each output
as numbers to `output/`, runs so many times, and prints their mean, least and most: `Avg= 1 ms, min= 1 ms, max= 1 ms`.
Its exit status says nothing. The converter runs here.

`MNNV2Basic.out`, where it lies beside it, tells the mean of each operator, from callbacks around them, and says its
arguments when it is given none: older ones take them in another order, and are not used.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targets.adb.benchmark import Benchmark, Feeds, Installed, as_text, last_words
from targets.channel import digest
from targets.errors import TargetError
from targets.feeds import check_feeds
from targets.runtimes import Reads
from targets.runtimes.mnn import ENGINE, READS, Mnn, Model, ProfiledModel, narrowed
from targets.runtimes.mnn import start as open_mnn

BY_KERNEL = "MNNV2Basic.out"
USAGE = "model.MNN runLoops runMask forwardType numberThread precision inputSize"
CPU, HIGH = "0", "1"  # MNN_FORWARD_CPU; BackendConfig::Precision_High: all in fp32, as everywhere here
NOTHING = "0"  # of the mask's debugging aids, which would slow it
MOST_OUTPUT_BYTES = 256 << 20

MEAN = re.compile(r"Avg=\s*(?P<mean>[0-9.]+) ms, min=\s*[0-9.]+ ms, max=\s*[0-9.]+ ms")
KERNEL = re.compile(
    r"^ *(?P<name>\S.*?) \t\[(?P<op>[^\]]*)\] run [0-9]+ average cost (?P<mean>[0-9.]+) ms", re.MULTILINE
)
WRITTEN = re.compile(r"^Write (?P<name>.*) output to (?P<path>output/[0-9_]+\.txt)$", re.MULTILINE)


def start(installed: Installed, folder: Path) -> "MnnModule":
    return MnnModule(installed, folder)


class MnnModule(Benchmark):
    single_runs = False

    def __init__(self, installed: Installed, folder: Path) -> None:
        self._installed = installed
        self._folder = folder
        self._here = open_mnn(1, {})  # the converter, and what knows the names in its files
        self._last = "nothing."  # what the program said last
        self._by_kernel: bool | None = None  # whether there is a program for kernel times; None: not asked yet
        assert isinstance(self._here, Mnn)

    def stack(self) -> dict[str, Any]:
        return {
            "runtime": "mnn",
            "version": f"binary {self._installed.version}",
            "provider": "CPU",
            "options": {"precision": "high", "converter": self._here.stack()["version"], "benchmark": "ModuleBasic"},
        }

    def reads(self) -> Reads:
        return READS

    def inputs(self, model: Path) -> list[dict[str, Any]]:
        return self._model(model).inputs()

    def build(self, model: Path, output: Path) -> None:
        self._here.build(str(model), str(output), optimise=True)

    def run(self, model: Path, feeds: Feeds, limit_s: float) -> dict[str, NDArray[Any]]:
        here = self._model(model)
        check_feeds(here.inputs(), narrowed(feeds))
        shapes = {name: tensor.getShape() for name, tensor in outputs_of(here).items()}
        said = self._run(model, here, feeds, 0, limit_s)
        written = {each["name"]: each["path"] for each in WRITTEN.finditer(said)}
        if set(written) != set(shapes):
            raise TargetError(f"ModuleBasic.out has not run {model.name}: {self._last}")
        return {name: self._fetched(written[name], shape) for name, shape in shapes.items()}

    def time(self, model: Path, feeds: Feeds, runs: int, limit_s: float) -> list[int]:
        said = self._run(model, self._model(model), feeds, runs, limit_s)
        found = MEAN.search(said)
        if found is None or float(found["mean"]) <= 0:
            raise TargetError(
                f"ModuleBasic.out tells no time of {model.name}: {self._last} Where it says nothing at all, MNN was "
                "built to write to the phone's log: build it with -DMNN_USE_LOGCAT=OFF."
            )
        return [round(float(found["mean"]) * 1e6)]

    def profile(self, model: Path, feeds: Feeds, runs: int, graph: Path, limit_s: float) -> list[dict[str, Any]] | None:
        """The mean of all runs, as one sample, in the order in which the same engine runs here."""
        if self._by_kernel is None:
            ran = BY_KERNEL in self._installed.places and self._installed.run({}, [], limit_s, BY_KERNEL)
            self._by_kernel = bool(ran and USAGE in ran.said)
        if not self._by_kernel:
            return None
        here = self._model(model)
        places = {"model.mnn": self._installed.phone.store(self._engine(model)), "output": ""}
        for name in outputs_of(here):
            places.update({f"output/{folder}": "" for folder in [name.rpartition("/")[0]] if folder})
        words = ["model.mnn", str(runs), NOTHING, CPU, str(self._installed.threads), HIGH]
        ran = self._installed.run(places, words, limit_s, BY_KERNEL)
        found = {each["name"]: each for each in KERNEL.finditer(ran.said)}
        order = [name for name in order_of(here) if name in found]
        if not found or len(order) < len(found):
            unknown = ", ".join(sorted(set(found) - set(order))[:3]) or "nothing"
            raise TargetError(f"{BY_KERNEL} names kernels of {model.name} that MNN does not have here: {unknown}.")
        graph.touch()  # the names of its operators say enough
        return [
            {
                "name": name,
                "op": found[name]["op"],
                "output_shapes": [],
                "samples_ns": [round(float(found[name]["mean"]) * 1e6)],
            }
            for name in order
        ]

    def _engine(self, model: Path) -> Path:
        if model.name.endswith(ENGINE):
            return model
        engine = self._folder / f"{digest(model)}{ENGINE}"
        if not engine.exists():
            for other in self._folder.glob(f"*{ENGINE}"):
                other.unlink()
            self.build(model, engine)
        return engine

    def _model(self, model: Path) -> Model:
        assert isinstance(self._here, Mnn)
        loaded = self._here.load(str(self._engine(model)), optimise=True)
        assert isinstance(loaded, Model)
        return loaded

    def _run(self, model: Path, here: Model, feeds: Feeds, runs: int, limit_s: float) -> str:
        phone, engine = self._installed.phone, self._engine(model)
        given = narrowed(feeds)
        asked = {
            "inputs": [{"name": name, "shape": list(values.shape)} for name, values in given.items()],
            "outputs": list(outputs_of(here)),
            "shapeMutable": False,
        }
        places = {"model.mnn": phone.store(engine), "feeds/input.json": self._stored("input.json", json.dumps(asked))}
        for number, (name, values) in enumerate(given.items()):
            places[f"feeds/{name}.txt"] = self._stored(f"input-{number}.txt", as_text(values))
        places["output"] = ""
        words = ["model.mnn", "feeds", NOTHING, CPU, str(runs), str(self._installed.threads), HIGH]
        ran = self._installed.run(places, words, limit_s)
        self._last = last_words(ran)
        if ran.status != 0:
            raise TargetError(f"ModuleBasic.out cannot run {model.name} (status {ran.status}): {self._last}")
        return ran.said

    def _stored(self, name: str, text: str) -> str:
        path = self._folder / name
        path.write_text(text, encoding="utf-8")
        return self._installed.phone.store(path)

    def _fetched(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        path = self._folder / "output.txt"
        try:
            self._installed.phone.fetch(name, path, MOST_OUTPUT_BYTES)
            values = np.array(path.read_text(encoding="ascii").split(), np.float32)
        finally:
            path.unlink(missing_ok=True)
        return values.reshape(shape)


def outputs_of(model: Model) -> dict[str, Any]:
    found: dict[str, Any] = model.interpreter.getSessionOutputAll(model.session)
    return found


def order_of(model: Model) -> list[str]:
    """The names of the operators as they run here."""
    profiled = ProfiledModel(model)
    profiled.run()
    return [kernel["name"] for kernel in profiled.kernels([0])]
