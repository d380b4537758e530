"""Many mutants of sound models, each judged in a process of its own: `python -m tests.fuzz.campaign 10000`.

Resumable: outcomes are appended to FILE as they come, and what stands there is not run again. Ends with status 1 where
an input failed.
"""

import argparse
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: a process with threads cannot be forked safely
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import onnxruntime  # noqa: F401 - loaded once here instead of once in every input's process

from tests.fuzz.hostile import CASES, judge_case
from tests.fuzz.isolation import Outcome, run_alone
from tests.fuzz.judge import judge_bytes
from tests.fuzz.mutate import Files, mutant
from tests.fuzz.seeds import seed_files

Record = dict[str, Any]


def main() -> None:
    arguments = parsed()
    output = Path(arguments.output)
    done = {record["name"] for record in records(output)}
    wanted = [*CASES, *(f"mutant {number}" for number in range(arguments.first, arguments.first + arguments.count))]
    todo = [name for name in wanted if name not in done]
    shares = [todo[lane :: arguments.workers] for lane in range(arguments.workers)]
    lanes = [fork_lane(share, output, shared=arguments.shared) for share in shares]
    ended = [os.waitpid(lane, 0)[1] for lane in lanes]
    if any(ended):
        sys.exit(f"a worker ended with {ended}; run again to go on")
    failures = report([record for record in records(output) if record["name"] in set(wanted)])
    sys.exit(1 if failures else 0)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="mutants, besides the hostile files made by hand")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shared", action="store_true", help="also mutate the small files of CUTBACK_MODELS")
    parser.add_argument("-o", "--output", default="fuzz.jsonl", metavar="FILE")
    return parser.parse_args()


def fork_lane(names: list[str], output: Path, *, shared: bool) -> int:
    lane = os.fork()
    if lane:
        return lane
    status = 1
    try:
        files, shared_files = seed_files(shared=False), seed_files(shared=shared)
        for name in names:
            what, outcome = judged(name, files, shared_files)
            line = json.dumps({"name": name, "what": what, **asdict(outcome)})
            with output.open("a") as stream:  # one write of one line: lanes do not mix
                stream.write(line + "\n")
        status = 0
    except BaseException:  # noqa: BLE001 - told here, since nothing of a lane reaches its parent
        traceback.print_exc()
    finally:
        os._exit(status)


def judged(name: str, files: Files, shared_files: Files) -> tuple[str, Outcome]:
    """Every twentieth mutant may be one of a real exporter's file: those take as long as all the others."""
    if name in CASES:
        return name, run_alone(partial(judge_case, name))
    number = int(name.split()[-1])
    what, data = mutant(number, files if number % 20 else shared_files)
    return what, run_alone(partial(judge_bytes, data))


def records(output: Path) -> Iterator[Record]:
    if output.exists():
        for line in output.read_text().splitlines():
            yield json.loads(line)


def report(found: list[Record]) -> int:
    """Print what was seen; the number of failures."""
    for verdict, count in Counter(record["verdict"] for record in found).most_common():
        print(f"{count:7}  {verdict}")
    if found:
        slowest, largest = (max(found, key=lambda record: record[key]) for key in ("cpu_seconds", "grown_bytes"))
        print(f"slowest: {slowest['name']} ({slowest['cpu_seconds']:.1f} s of processor time)")
        print(f"largest: {largest['name']} ({largest['grown_bytes'] / 2**20:.0f} MiB)")
    failures = [record for record in found if record["verdict"].startswith("FAILED")]
    for record in failures:
        print(f"{record['name']} ({record['what']}): {record['verdict']}: {record['detail'][:300]}")
    return len(failures)


if __name__ == "__main__":
    main()
