"""Cut the whole zoo and write docs/zoo.md: `python -m tests.zoo.report`.

Every variant runs in a process of its own with a time limit; every result is written to docs/zoo.json as soon as it is
there, so that `--missing` goes on where a run was stopped, and `--only NAME` renews single rows.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path

import onnx

from tests.zoo.catalogue import ARCHITECTURES
from tests.zoo.page import page
from tests.zoo.run import Result, cut_in_half, exported
from tests.zoo.variants import VARIANTS

ROOT = Path(__file__).parents[2]
RESULTS, PAGE = ROOT / "docs" / "zoo.json", ROOT / "docs" / "zoo.md"
LIMIT_S = 900
# What every child needs; imported once, in the process that the children are forked from.
PRELOADED = ["torch._dynamo", "torch.export", "onnxscript", "onnxruntime", "tests.zoo.run"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.report", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(ARCHITECTURES), choices=ARCHITECTURES)
    parser.add_argument("--variant", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--missing", action="store_true", help="only what docs/zoo.json does not hold yet")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for one variant")
    parser.add_argument(
        "--exports", type=Path, help="keep exported graphs in this folder, and use those that lie there"
    )
    chosen = parser.parse_args(arguments)
    results = {(r.architecture, r.variant): r for r in read(RESULTS) if r.variant in _variants(r.architecture)}
    wanted = [
        (name, variant)
        for name in chosen.only
        for variant in _variants(name)
        if variant in chosen.variant and not (chosen.missing and (name, variant) in results)
    ]
    for number, (name, variant) in enumerate(wanted, 1):
        started = time.perf_counter()
        results[name, variant] = run_apart(name, variant, chosen.limit, chosen.exports)
        told = _told(results[name, variant])
        print(f"[{number}/{len(wanted)}] {name} {variant} {time.perf_counter() - started:.0f} s: {told}", flush=True)
        write([results[key] for key in _order() if key in results])


def run_apart(name: str, variant: str, limit_s: float, exports: Path | None = None) -> Result:
    """The result from a process of its own; a crash and the end of the time are results too."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, name, variant, exports))
    child.start()
    theirs.close()
    try:
        if not ours.poll(limit_s):
            return Result(name, variant, failed_at="cut", failure=f"not done after {limit_s:g} s")
        received: Result = ours.recv()
        return received
    except EOFError:
        child.join()
        return Result(name, variant, failed_at="cut", failure=f"the process ended with status {child.exitcode}")
    finally:
        child.kill()
        child.join()
        ours.close()


def _child(pipe: Connection, name: str, variant: str, exports: Path | None) -> None:
    import torch

    torch.set_num_threads(1)
    pipe.send(attempt(name, variant, exports))


def attempt(name: str, variant: str, exports: Path | None = None) -> Result:
    """The result; what fails is told by where and with its first line."""
    try:
        proto = _exported(name, variant, exports)
    except Exception as error:  # noqa: BLE001 - whatever the exporter raises is its failure, and is reported
        return Result(name, variant, failed_at="export", failure=_line(_root(error)))
    try:
        return cut_in_half(name, VARIANTS[variant], proto)
    except Exception as error:  # noqa: BLE001 - a crash is a row of the table, not the end of the table
        return Result(name, variant, failed_at="cut", failure=_line(error))


def _exported(name: str, variant: str, exports: Path | None) -> onnx.ModelProto:
    file = exports / f"{name}-{variant}.onnx" if exports else None
    if file and file.exists():
        return onnx.load(file)
    proto = exported(name, VARIANTS[variant])
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(proto, file)
    return proto


def _root(error: BaseException) -> BaseException:
    """What was raised first: the exporters wrap the sentence that counts in advice."""
    return _root(error.__cause__) if error.__cause__ else error


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def _variants(name: str) -> list[str]:
    return [variant.name for variant in ARCHITECTURES[name].variants] if name in ARCHITECTURES else []


def _order() -> Iterator[tuple[str, str]]:
    for name in ARCHITECTURES:
        for variant in _variants(name):
            yield name, variant


def _told(result: Result) -> str:
    if result.failed_at:
        return f"{result.failed_at} failed: {result.failure}"
    return f"{result.flops:.3f} of the multiply-adds left, error {result.relative_error:.1e}, {result.seconds:.1f} s"


def read(path: Path) -> list[Result]:
    return [Result(**row) for row in json.loads(path.read_text())] if path.exists() else []


def write(results: list[Result]) -> None:
    rows = ",\n".join(json.dumps(asdict(result)) for result in results)
    for path, text in ((RESULTS, f"[\n{rows}\n]\n"), (PAGE, page(results))):
        beside = path.with_name(path.name + ".partial")
        beside.write_text(text)
        beside.replace(path)


if __name__ == "__main__":
    main()
