"""How fast the pinned core computes just now, by a fixed small piece of work that is timed between a model's runs
(device side).

Inside a virtual machine no counter says that another guest computes on the other half of the core: there is no steal,
no other process, no fall of a clock that could be read. The work itself tells: translating bytes keeps the ports for
loads and stores full, so it takes 1.9 times as long while they are shared (EPYC of the fourth generation), where a
network takes 1.2 to 1.3 times.
"""

from __future__ import annotations

import time

# A reading takes some 40 us, two thousandths of the time, and may cost the run behind it some 20 us: of a fast model
# that is one run in twenty, too few to move a median; of a slow one a thousandth.
EVERY_NS = 20_000_000
PASSES = 15
BLOCK = bytes(range(256)) * 16  # 4 KiB: at home in the innermost cache
TABLE = bytes(reversed(range(256)))


def read_speed() -> int:
    """One reading in ns. It knows nothing of the model: the same work always, on memory of its own that a first pass,
    untimed, brings back into the cache, wherever the model's run has left it."""
    translate = BLOCK.translate
    translate(TABLE)
    begin = time.perf_counter_ns()
    for _ in range(PASSES):
        translate(TABLE)
    return time.perf_counter_ns() - begin
