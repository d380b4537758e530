"""Whatever bytes a file holds, loading answers in one line or loads what they say.

`CUTBACK_FUZZ=10000` (or `make fuzz`) runs more mutants; the hostile files made by hand run always.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.hostile import CASES
from tests.fuzz.judge import judge_bytes
from tests.fuzz.mutate import mutant
from tests.fuzz.seeds import SEEDS, seed_files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and memory of a process are read Linux's way")

ROOT = Path(__file__).parents[2]
MUTANTS = int(os.environ.get("CUTBACK_FUZZ", "60"))


@pytest.mark.timeout(0)
def test_every_file_is_refused_in_one_line_or_computes_what_it_says(tmp_path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.campaign", str(MUTANTS), "-o", str(tmp_path / "fuzz.jsonl")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = (tmp_path / "fuzz.jsonl").read_text().splitlines()
    assert len(lines) == len(CASES) + MUTANTS
    assert {json.loads(line)["verdict"] for line in lines} == {"refused", "equal", "loaded"}


@pytest.mark.parametrize("name", SEEDS)
def test_seed_is_sound(name) -> None:
    assert judge_bytes(seed_files(shared=False)[name], lambda phase: None)[0] == "equal"


def test_the_same_number_gives_the_same_mutant() -> None:
    files = seed_files(shared=False)
    assert [mutant(number, files) for number in range(20)] == [mutant(number, files) for number in range(20)]
    assert len({data for _, data in (mutant(number, files) for number in range(20))}) > 15


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("raise KeyError('a')", "FAILED: KeyError"),
        ("os.abort()", "FAILED: crash"),
        ("while True: pass", "FAILED: hang"),
        ("bytearray(3 * 2**30)", "FAILED: MemoryError"),
        ("tell('original'); os.abort()", "loaded"),
        ("return 'refused', ''", "refused"),
    ],
)
def test_what_an_input_does_to_its_process_is_seen(body, verdict) -> None:
    code = f"""
import os
from tests.fuzz.isolation import run_alone
def judge(tell):
    {body}
print(run_alone(judge, cpu_seconds=1).verdict)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == verdict
