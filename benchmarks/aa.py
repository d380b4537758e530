"""A/A: a network measured against itself, many times. Every claimed difference is false; 1 % of them are allowed for.

    python -m benchmarks.aa --output aa-quick.jsonl                                 # 100 self-tests, quick protocol
    python -m benchmarks.aa --output aa-full.jsonl --protocol full --tests 20
    python -m benchmarks.aa --output aa-quick.jsonl --summary                       # what the file says, nothing run

The network is built twice, and each self-test times both builds in fresh, interleaved sessions: by default ten a side,
as `cutback measure` does. No session is in two self-tests. Every self-test is a line of the output; started again, the
benchmark goes on behind the last one (`--minutes` ends it in time). A session of the quick protocol takes about 0.6 s
with the start of its process, one of the full protocol 1.6 s: 100 self-tests are 20 minutes, or 12 with `--sessions 6`;
20 by the full protocol are 11. Disturbed sessions are taken again, in at most twice the time.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.graph.model import load, save
from targets.connection import Connection, Engine, connect
from targets.errors import BadInput
from targets.selftest import Shapes, Tally, as_row, self_tests, tally
from targets.target import find_target

NETWORK, SIZE = "squeezenet", 96  # small and real: what is checked is the timing, not the network
SESSION_S = {"quick": 0.6, "full": 1.6}
SETTING = ("network", "protocol", "sessions", "confidence")  # what all lines of a file have in common


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("aa.jsonl"), help="JSON lines, one a self-test; added to")
    parser.add_argument("--tests", type=int, default=100, help="self-tests in the file in the end (default: 100)")
    parser.add_argument("--sessions", type=int, default=10, help="fresh sessions a side (default: 10)")
    parser.add_argument("--protocol", choices=("quick", "full"), default="quick")
    parser.add_argument("--confidence", type=float, default=0.99)
    parser.add_argument("--model", type=Path, help=f"an .onnx file (default: {NETWORK} at {SIZE}x{SIZE})")
    parser.add_argument("--target", default="local")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="start no self-test after so long; run again to go on")
    parser.add_argument("--summary", action="store_true", help="only say what the file holds")
    asked = parser.parse_args(arguments)
    setting = {
        "network": asked.model.name if asked.model else f"{NETWORK} {SIZE}x{SIZE}",
        "protocol": asked.protocol,
        "sessions": asked.sessions,
        "confidence": asked.confidence,
    }
    if not asked.summary:
        take(asked, setting, read(asked.output, setting))
    rows = read(asked.output, None if asked.summary else setting)
    if not rows:
        raise SystemExit(f"{asked.output} holds no self-test yet.")
    counted = count(rows)
    print(table(rows))
    print(describe(counted))
    print(markdown(rows, counted))
    if not counted.passed:
        raise SystemExit(1)


def take(asked: argparse.Namespace, setting: Mapping[str, Any], done: Sequence[Mapping[str, Any]]) -> None:
    """Add self-tests to the file until it holds as many as asked for. A seed is used once in a file."""
    numbers = range(len(done), asked.tests)
    expected_s = 2 * asked.sessions * SESSION_S[asked.protocol] * len(numbers)
    print(f"{len(done)} of {asked.tests} self-tests are there; the others take about {expected_s / 60:.0f} minutes")
    begun = time.monotonic()
    with connect(find_target(asked.target)) as connection, tempfile.TemporaryDirectory(prefix="cutback-aa-") as folder:
        engines, bound = build_twice(asked.model, connection, Path(folder))
        for number in numbers:
            spent_s = time.monotonic() - begun
            if asked.minutes is not None and spent_s > 60 * asked.minutes:
                print(f"{number} of {asked.tests} self-tests are there; run the same command again to go on")
                return
            (found,) = self_tests(
                engines, connection, shapes=bound, sessions=asked.sessions, quick=asked.protocol == "quick",
                confidence=asked.confidence, seeds=[asked.seed + number],
            )  # fmt: skip
            now_s = time.monotonic() - begun
            row = {**setting, "seed": asked.seed + number, "seconds": now_s - spent_s, **as_row(found)}
            with asked.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**row, "device": connection.device.name}) + "\n")
            left_s = now_s / (number - numbers.start + 1) * (asked.tests - number - 1)
            print(
                f"{number + 1}/{asked.tests} {line(row)}; {left_s / 60:.0f} minutes left", file=sys.stderr, flush=True
            )


def build_twice(model: Path | None, connection: Connection, folder: Path) -> tuple[tuple[Engine, Engine], Shapes]:
    """Two engines of one model, and the shapes that its free dimensions are bound to."""
    if model is None:
        from benchmarks.networks import NETWORKS, export

        model = export(NETWORKS[NETWORK](), folder / f"{NETWORK}.onnx", SIZE)
    loaded = load(model)
    save(loaded, folder / "model.onnx")
    first, second = (connection.build(folder / "model.onnx", folder / f"{side}.engine.onnx") for side in "ab")
    return (first, second), loaded.bound


def read(path: Path, setting: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The file's self-tests; a last line that was cut short by an interruption is dropped from the file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    rows = [json.loads(row) for row in whole.splitlines()]
    wanted = setting or (rows[0] if rows else {})
    for row in rows:
        if any(row[part] != wanted[part] for part in SETTING):
            raise BadInput(f"{path} holds self-tests of another setting. Give another --output, or the same setting.")
    return rows


def count(rows: Sequence[Mapping[str, Any]]) -> Tally:
    claims = sum(row["verdict"] != "inconclusive" for row in rows)
    return tally(len(rows), claims, rows[0]["confidence"])


def line(row: Mapping[str, Any]) -> str:
    taken = f", {row['repeats']} taken again" if row["repeats"] else ""
    return f"{row['ratio']:.4f} [{row['low']:.4f}, {row['high']:.4f}] {row['verdict']} ({row['protocol']}){taken}"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(f"{number:4} {line(row)}" for number, row in enumerate(rows, 1))


def describe(counted: Tally) -> str:
    return (
        f"{counted.claims} of {counted.count} claim a difference; {counted.expected:.3g} expected at "
        f"{counted.confidence:.0%}, chance allows {counted.allowed}. Their rate: "
        f"{counted.claims / counted.count:.1%}, 95 % interval (exact binomial) {counted.low:.2%} to {counted.high:.2%}."
    )


def markdown(rows: Sequence[Mapping[str, Any]], counted: Tally) -> str:
    """The table in docs/results.md: its head and this file's line. The half width is the median one."""
    width = statistics.median(math.sqrt(row["high"] / row["low"]) - 1 for row in rows)
    furthest = max(abs(row["ratio"] - 1) for row in rows)
    first = rows[0]
    return (
        "| network | protocol | sessions a side | self-tests | claims (95 % interval) | expected | half width "
        "| furthest ratio | taken again |\n|---|---|---|---|---|---|---|---|---|\n"
        f"| {first['network']} | {first['protocol']} | {first['sessions']} | {counted.count} | {counted.claims} "
        f"({counted.low:.1%} to {counted.high:.1%}) | {counted.expected:.3g} | ±{width:.2%} | {furthest:.2%} "
        f"| {sum(row['repeats'] for row in rows) / len(rows):.1f} |"
    )


if __name__ == "__main__":
    main()
