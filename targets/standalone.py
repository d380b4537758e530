"""What `cutback pack --for jetson` sends to a device: it builds, checks and times there, and writes down what it saw.

    python3 on_device.pyz [options]        in the folder that was packed
    python3 on_device.pyz --worker ...     what it starts itself (see `worker`)

Device side. Each model of the folder's manifest becomes an engine of the device's own runtime in `engines/`, is run on
the golden input, compared, and timed beside the others in fresh processes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any, Mapping, NamedTuple, NoReturn, Sequence

from targets.conditions.regimes import check_regime, regime_doubts
from targets.errors import BadInput, CutbackError, GoalNotMet, RuntimeMissing, TargetError
from targets.here import Here
from targets.lease import Lease, holder_name
from targets.packed import Model, read_golden, read_models
from targets.runtimes import facts_of
from targets.workers import run_worker

PACKED = ("tensorrt", "onnxruntime")  # the runtimes that are in the archive
DLA_TAKES = ("fp16",)  # what is built for an accelerator; fp32 and Q/DQ would run beside it, on the GPU


class Engine(NamedTuple):
    """`difference`: relative, from what the host computed of the same ONNX file."""

    model: Model
    path: Path
    difference: float


class Waiting:
    """Says who has the device, once for each."""

    def __init__(self) -> None:
        self._told = ""

    def __call__(self, holder: str) -> None:
        if holder != self._told:
            self._told = holder
            say(f"the device is busy for {holder}; waiting")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}. Options: python3 on_device.pyz --help")


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        run_worker(sys.argv[2:])
        return
    try:
        work(Path(sys.argv[0]).absolute().parent, parsed(sys.argv[1:]))
        status = 0
    except CutbackError as failure:
        sys.stderr.write(f"on_device: error: {failure}\n")
        status = failure.exit_status
    except KeyboardInterrupt:
        sys.stderr.write("on_device: interrupted; no results were written\n")
        status = 130
    sys.exit(status)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="on_device.pyz", description="Build, check and time the models of this folder on this device.")
    add = parser.add_argument
    add("--runtime", choices=PACKED, default=PACKED[0], help="what builds and runs (default: tensorrt)")
    add("--dla", type=int, metavar="N", help="build for this deep learning accelerator; fp16 only")
    add("--threads", type=int, default=1, metavar="N", help="processor cores that a worker is pinned to (default: 1)")
    add(
        "--regime", choices=("as-shipped", "locked"), default="as-shipped", help="locked: after nvpmodel, jetson_clocks"
    )
    add("--sessions", type=int, default=10, metavar="N", help="processes that each engine is timed in (default: 10)")
    add("--quick", action="store_true", help="shorter sessions, and the results say so")
    add("--output", type=Path, default=Path("results.jsonl"), metavar="FILE", help="for: cutback db merge FILE")
    options = parser.parse_args(arguments)
    if options.sessions < 1:
        raise BadInput(f"--sessions {options.sessions} measures nothing. Ask for at least 1.")
    if options.dla is not None and options.runtime != "tensorrt":
        raise BadInput(f"--dla is TensorRT's; {options.runtime} has none.")
    if options.output.exists():
        raise BadInput(f"{options.output} is there already. Name another --output, or move it away.")
    return options


def work(folder: Path, options: argparse.Namespace) -> None:
    """`GoalNotMet` at the end where any model was refused; what the others gave is written all the same."""
    try:
        import numpy as np  # noqa: F401 -- asked for here, so that its absence is one line
    except ImportError as missing:
        raise RuntimeMissing(
            f"numpy cannot be imported by {sys.executable} ({missing}). Run: {sys.executable} -m pip install numpy"
        ) from missing
    models = read_models(folder)
    with tempfile.TemporaryDirectory(prefix="cutback-") as scratch:
        setting = {} if options.dla is None else {"dla": options.dla}
        here = Here(Path(scratch), options.runtime, options.threads, setting, Lease(holder_name()), Waiting())
        try:
            device = here.ask("device", {})
            say(f"{device['device_class']['cpu']}; {options.runtime} {device['stack']['version']} on")
            say(f"  {device['stack']['provider']}")
            check_regime(options.regime, device["lock"], "this run (--regime)")
            if options.dla is not None:
                models = for_dla(models)
            engines, refused = build_all(here, folder, models, Path(scratch))
            if device["emulated"]:
                say("not timed: this machine is emulated, and its times say nothing about a real one")
            elif engines:
                time_all(here, device, engines, options)
        finally:
            here.close()
    if refused:
        raise GoalNotMet(f"{', '.join(refused)}: refused above; engines of what was not are in {folder / 'engines'}.")


def for_dla(models: Sequence[Model]) -> list[Model]:
    taken = [model for model in models if model.precision in DLA_TAKES]
    left_out = [model.name for model in models if model not in taken]
    say(f"left out, because a DLA is built for in {', '.join(DLA_TAKES)} only: {', '.join(left_out)}")
    return taken


def build_all(here: Here, folder: Path, models: Sequence[Model], scratch: Path) -> tuple[list[Engine], list[str]]:
    """(engines that were seen to give what the host computed, names of the models that are none)."""
    from targets.feeds import write_tensors

    golden = read_golden(folder / "golden.npz")
    feeds = scratch / "feeds.npz"
    write_tensors(str(feeds), golden["input"])
    (folder / "engines").mkdir(exist_ok=True)
    engines, refused = [], []
    for model in models:
        say(f"{model.name}: building")
        try:
            engine = build_one(here, folder, model, feeds, golden[model.name])
        except (BadInput, TargetError) as refusal:
            say(f"{model.name}: refused: {refusal}")
            refused.append(model.name)
            continue
        say(f"{model.name}: outputs differ from the host's by {engine.difference:.2g} (relative)")
        engines.append(engine)
    return engines, refused


def build_one(here: Here, folder: Path, model: Model, feeds: Path, expected: Mapping[str, Any]) -> Engine:
    from targets.comparison import BROKEN, BROKEN_QUANTISED, outputs_differ
    from targets.feeds import read_tensors

    path = folder / "engines" / (model.name + facts_of(here.runtime).suffix)
    if path.exists():
        path.unlink()  # an earlier build's; what stands there at the end is of this one
    beside = path.with_name(f"unchecked-{path.name}")
    made = feeds.with_name("outputs.npz")
    try:
        here.ask("build", {"model": str(model.path), "output": str(beside), "optimise": True})
        here.ask("run", {"model": str(beside), "feeds": str(feeds), "output": str(made), "optimise": True})
        difference = outputs_differ(read_tensors(str(made)), expected)
        if difference < (BROKEN_QUANTISED if model.precision == "int8" else BROKEN):
            beside.replace(path)
            return Engine(model, path, difference)
        raise TargetError(
            f"the engine gives other outputs than its graph (by {difference:.1%}). It cannot be trusted and was "
            "removed; try another version of the runtime."
        )
    finally:
        if beside.exists():
            beside.unlink()


def time_all(here: Here, device: Mapping[str, Any], engines: Sequence[Engine], options: argparse.Namespace) -> None:
    from targets import results
    from targets.rounds import Session, take_rounds

    def session_of(engine: Engine) -> Session:
        session = here.ask("time", {"model": str(engine.path), "shapes": {}, "quick": options.quick})
        lock = session["conditions"].get("lock", device["lock"])
        check_regime(options.regime, lock, "this run (--regime)")
        doubted: Session = {**session, "doubts": session["doubts"] + regime_doubts(options.regime, lock)}
        return doubted

    def cool() -> bool:
        say("throttled: waiting until it has cooled down, a minute at most")
        left = here.ask("cool", {})["left"]
        if left:
            say(f"doubt: it did not cool down: {left[0]}")
        return not left

    take = [lambda engine=engine: session_of(engine) for engine in engines]
    for doubt in regime_doubts(options.regime, device["lock"]):
        say(f"doubt: {doubt}")
    timed = take_rounds(take, options.sessions, progress, cool)
    first = timed[0].median_ns
    say(f"{'engine':<16}{'median ms':>11}{'sessions from .. to':>23}{'beside':>9}{'difference':>12}{'bytes':>12}")
    for engine, each in zip(engines, timed):  # noqa: B905 -- strict= is newer than 3.8
        spread = f"{min(each.medians_ns) / 1e6:.3f} .. {max(each.medians_ns) / 1e6:.3f}"
        size = engine.path.stat().st_size
        say(
            f"{engine.model.name:<16}{each.median_ns / 1e6:>11.3f}{spread:>23}{first / each.median_ns:>8.2f}x"
            f"{engine.difference:>12.2g}{size:>12,}"
        )
    say(f"beside: how many times as fast as {engines[0].model.name}" + (", by short sessions" if options.quick else ""))
    disturbed = sum(each.disturbed for each in timed)
    if disturbed:
        say(
            f"doubt: {disturbed} of {sum(len(each.sessions) for each in timed)} sessions stayed disturbed by other work"
        )
    ran = [
        results.Ran(engine.model.sha256, engine.model.precision, each.sessions)
        for engine, each in zip(engines, timed)  # noqa: B905
    ]
    results.write(options.output, results.encoded(device, options.regime, ran))
    say(f"written {options.output}. Bring it back and run: cutback db merge {options.output.name}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def progress(done: int, total: int) -> None:
    """Where somebody looks on; a log file need not hold it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\rtiming: {done} of {total} sessions" + ("\n" if done == total else ""))
        sys.stderr.flush()
