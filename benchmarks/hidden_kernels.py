"""A stand-in for a runtime that tells no kernel times: a real connection whose profiles leave the kernels out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from targets.connection import Connection, Engine
from targets.errors import TargetError
from targets.kernels import Profile


class HiddenKernels(Connection):
    """The connection it was given, with another `profile`. It and the given one take turns: one request at a time."""

    def __init__(self, real: Connection) -> None:
        vars(self).update(vars(real))

    def profile(
        self,
        model: Engine | Path,
        *,
        shapes: Mapping[str, Sequence[int]] | None = None,
        runs: int = 30,
        kernels_only: bool = False,
    ) -> Profile:
        if kernels_only:
            raise TargetError("The kernels of this connection are hidden. Profile whole networks on it.")
        return replace(super().profile(model, shapes=shapes, runs=runs), kernels=())
