"""Tensors for the models: random ones by specification, and .npz files from and to the host (device side)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from targets.errors import BadInput

SEED = 20  # any fixed one: two sessions of a model see the same numbers

NAME = "t{}"  # tensor names hold slashes, which are folders to the zip format: they go by number, beside the names


def random_feeds(
    inputs: Sequence[Mapping[str, Any]], shapes: Mapping[str, Sequence[int]]
) -> dict[str, np.ndarray[Any, Any]]:
    """Standard normal floats, integers 0 or 1 (safe as an index), for inputs as `Loaded.inputs` gives them."""
    rng = np.random.default_rng(SEED)
    feeds: dict[str, np.ndarray[Any, Any]] = {}
    for name, shape in bind(inputs, shapes).items():
        dtype = np.dtype(next(spec["dtype"] for spec in inputs if spec["name"] == name))
        if dtype.kind == "f":
            feeds[name] = rng.standard_normal(shape).astype(dtype)
        else:
            feeds[name] = rng.integers(0, 2, shape).astype(dtype)
    return feeds


def bind(inputs: Sequence[Mapping[str, Any]], shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Every input's shape with its free dimensions bound by `shapes`; an unset batch (axis 0) is 1.

    A symbol that one input's given shape binds is bound wherever it stands. `BadInput` for anything else left free.
    """
    known = {spec["name"]: spec["shape"] for spec in inputs}
    for name, given in shapes.items():
        if name not in known:
            raise BadInput(f"The model has no input {name!r}. Its inputs are: {', '.join(known)}.")
        declared = known[name]
        fits = len(given) == len(declared) and all(
            size > 0 and (not isinstance(dim, int) or dim == size)
            for dim, size in zip(declared, given)  # noqa: B905 -- strict= is newer than 3.8
        )
        if not fits:
            raise BadInput(
                f"Input {name!r} is declared as {show(declared)}; the given shape {show(given)} does not fit."
            )
    symbols = {}
    for name, given in shapes.items():
        symbols.update({dim: size for dim, size in zip(known[name], given) if isinstance(dim, str)})  # noqa: B905
    bound = {}
    for name, declared in known.items():
        shape = list(shapes.get(name, declared))
        for axis, dim in enumerate(shape):
            if isinstance(dim, int):
                continue
            if dim not in symbols and axis > 0:
                raise BadInput(
                    f"Input {name!r} leaves axis {axis} of {show(declared)} free. Bind it: --shape {name}=..."
                )
            shape[axis] = symbols.get(dim, 1)
        bound[name] = tuple(int(dim) for dim in shape)
    return bound


def check_feeds(inputs: Sequence[Mapping[str, Any]], feeds: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """`BadInput` unless `feeds` are all the inputs and nothing else, of their dtypes and shapes."""
    for name in feeds:
        if name not in {spec["name"] for spec in inputs}:
            raise BadInput(f"The model has no input {name!r}. Its inputs are: {', '.join(s['name'] for s in inputs)}.")
    for spec in inputs:
        name, declared = spec["name"], spec["shape"]
        if name not in feeds:
            raise BadInput(f"Input {name!r} is missing. Feed it a {spec['dtype']} tensor of {show(declared)}.")
        feed = feeds[name]
        if feed.dtype != np.dtype(spec["dtype"]):
            raise BadInput(f"Input {name!r} is {spec['dtype']}; it was fed {feed.dtype}.")
        fits = all(not isinstance(dim, int) or dim == size for dim, size in zip(declared, feed.shape))  # noqa: B905
        if len(feed.shape) != len(declared) or not fits:
            raise BadInput(f"Input {name!r} is declared as {show(declared)}; a tensor of {show(feed.shape)} was fed.")


def show(shape: Sequence[int | str | None]) -> str:
    return "x".join("?" if dim is None else str(dim) for dim in shape) or "scalar"


def write_tensors(path: str, tensors: Mapping[str, np.ndarray[Any, Any]]) -> list[str]:
    """Write an .npz; the names are inside as `names` and returned."""
    numbered = {NAME.format(index): tensor for index, tensor in enumerate(tensors.values())}
    arrays: dict[str, Any] = {"names": np.array(list(tensors), dtype=str), **numbered}
    with Path(path).open("wb") as file:  # given a path, savez would append .npz to it
        np.savez(file, **arrays)
    return list(tensors)


def read_tensors(path: str) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(path, allow_pickle=False) as archive:
        return {str(name): archive[NAME.format(index)] for index, name in enumerate(archive["names"])}
