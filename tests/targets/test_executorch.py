"""ExecuTorch's side that needs no ExecuTorch: who keeps a program alive."""

import gc
import weakref
from collections.abc import Sequence

import pytest

pytest.importorskip("torch")

from targets.runtimes.executorch import Program


class Bytes:
    """What a real method points into, and does not keep alive itself."""


class Method:
    def execute(self, tensors: Sequence[object]) -> Sequence[object]:
        return tensors


def test_what_a_program_points_into_lives_as_long_as_its_runner() -> None:
    """The gauge's engine is dropped as soon as it is running: its program was freed under it."""
    content = Bytes()
    alive = weakref.ref(content)
    meaning = {"inputs": [{"name": "x", "shape": [1, 2], "dtype": "float32"}], "outputs": []}
    run = Program(Method(), meaning, (content,)).runner({})
    del content
    gc.collect()
    assert alive() is not None
    run()
    del run
    gc.collect()
    assert alive() is None
