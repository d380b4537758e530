"""A device whose agent is the real one with other settings: shorter patience, a clock that jumps, notes of what it did.

The agent's archive is what it always is; only the interpreter that runs it is a script, which sets what a test says and
then goes on as the archive would.
"""

import sys
from pathlib import Path

SCRIPT = """#!{python}
import sys
sys.argv = sys.argv[1:]  # as if the archive had been started itself
sys.path.insert(0, sys.argv[0])
sys.executable = {own!r}  # its workers start the same way
import targets.agent, targets.host, targets.lease, targets.worker
{settings}
targets.agent.main()
"""

# A line for each session: when it began and ended on the device's own clock, and whose it was.
NOTED = """
import json, os, time
take_session = targets.worker.take_session
def noted(*arguments):
    begin = time.monotonic()
    result = take_session(*arguments)
    with open({notes!r}, "a") as file:
        file.write(json.dumps([begin, time.monotonic(), os.getppid()]) + "\\n")
    return result
targets.worker.take_session = noted
"""

JUMPING = """
import itertools, time
jumps = itertools.cycle([-3e8, 3e8, 0.0])
clock, clock_ns = time.time, time.time_ns
time.time = lambda: clock() + next(jumps)
time.time_ns = lambda: clock_ns() + int(next(jumps)) * 10**9
"""


def hurried(folder: Path, settings: str) -> str:
    """A path for `Target.python`."""
    path = folder / "hurried-python"
    path.write_text(SCRIPT.format(python=sys.executable, own=str(path), settings=settings), encoding="utf-8")
    path.chmod(0o755)
    return str(path)
