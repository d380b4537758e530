"""What a device behind ssh costs a measurement: the same requests here and through ssh, in turns.

    python -m benchmarks.ssh_overhead                          # a real sshd on loopback, with its own keys and port
    python -m benchmarks.ssh_overhead --address me@localhost   # this machine, as your own ssh reaches it

Both sides are this machine, or the difference says more than what ssh costs. A request is what every measurement is: a
fresh process that loads the network, warms up and samples by the quick protocol; `describe` is the smallest request
there is, to a process that is loaded already. Every round asks both sides, in random order; the overhead of a round is
the difference of its two wall times. Shown: the median over the rounds with its exact 99 % interval (binomial).
"""

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from scipy import stats

from benchmarks.networks import NETWORKS, export
from targets.connection import Connection, connect
from targets.target import Target

ASKED_MS = 300.0
NETWORK, SIZE = "squeezenet", 96


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--address", help="where ssh finds this machine (default: an sshd of our own)")
    parser.add_argument("--config", default="", help="a file for ssh -F")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="cutback-overhead-") as text, contextlib.ExitStack() as stack:
        folder = Path(text)
        target = stack.enter_context(device(asked, folder))
        network = export(NETWORKS[NETWORK](), folder / "network.onnx", SIZE)
        begin = time.perf_counter()
        with connect(target):
            cold_s = time.perf_counter() - begin
        begin = time.perf_counter()
        far = stack.enter_context(connect(target))
        warm_s = time.perf_counter() - begin
        begin = time.perf_counter()
        near = stack.enter_context(connect(Target("local", python=asked.python)))
        local_s = time.perf_counter() - begin
        print(f"connecting, and seeing what is there: {cold_s:.2f} s the first time, {warm_s:.2f} s over the open "
              f"connection, {local_s:.2f} s local")  # fmt: skip
        engine = near.build(network, folder / "engine")
        requests: Mapping[str, Callable[[Connection], object]] = {
            "a measurement": lambda side: side.time(engine, quick=True),
            "describe": lambda side: side.describe(engine),
        }
        for name, request in requests.items():
            print(describe(name, *taken(request, near, far, asked.rounds, asked.seed)))


@contextlib.contextmanager
def device(asked: argparse.Namespace, folder: Path) -> Iterator[Target]:
    if asked.address:
        yield Target("far", "ssh", address=asked.address, config=asked.config, python=asked.python)
        return
    from tests.targets.sshd import serve

    with serve(folder / "device") as server:
        yield server.target("far", python=asked.python)


def taken(
    request: Callable[[Connection], object], near: Connection, far: Connection, rounds: int, seed: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of every round, near and far, and of nothing else: files are there, both sides have been asked."""
    order, times = random.Random(seed), {near: [0.0] * rounds, far: [0.0] * rounds}
    for side in (near, far):
        request(side)
    for number in range(rounds):
        for side in order.sample((near, far), 2):
            begin = time.perf_counter()
            request(side)
            times[side][number] = 1e3 * (time.perf_counter() - begin)
    return times[near], times[far]


def describe(name: str, near_ms: Sequence[float], far_ms: Sequence[float]) -> str:
    differences = sorted(far - near for near, far in zip(near_ms, far_ms, strict=True))
    low, high = interval(differences)
    median = differences[len(differences) // 2]
    met = "" if name == "describe" else f"; under {ASKED_MS:.0f} ms: {'yes' if high < ASKED_MS else 'NO'}"
    return (
        f"{name}: {sorted(near_ms)[len(near_ms) // 2]:.0f} ms local, {sorted(far_ms)[len(far_ms) // 2]:.0f} ms through "
        f"ssh; overhead {median:.1f} ms [{low:.1f}, {high:.1f}] in {len(differences)} rounds{met}"
    )


def interval(ordered: Sequence[float], confidence: float = 0.99) -> tuple[float, float]:
    """Of the median: the order statistics that enclose it, whatever the distribution."""
    rank = int(stats.binom.ppf((1 - confidence) / 2, len(ordered), 0.5))
    return ordered[max(rank - 1, 0)], ordered[min(len(ordered) - rank, len(ordered) - 1)]


if __name__ == "__main__":
    main()
