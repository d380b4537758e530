"""Whether arrays fit the network. Each way of being wrong is one BadInput: what, where, what now."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.batches import InputSpec
from targets.errors import BadInput

CHUNK_BYTES = 16 << 20  # finiteness is checked this much at a time: the mask never costs more than a few MB


def check_input(values: NDArray[np.generic], spec: InputSpec, where: str) -> NDArray[np.generic]:
    """`values` as the network takes them: right shape, cast safely to the right dtype, finite, at least one example."""
    _check_shape(values.shape, spec, where)
    cast = _cast(values, spec, where)
    _check_finite(cast, where)
    return cast


def check_pixels(values: NDArray[np.generic], spec: InputSpec, where: str) -> NDArray[np.uint8]:
    """8-bit pixels that will be normalised batch by batch: right shape, uint8, at least one example."""
    _check_shape(values.shape, spec, where)
    if values.dtype != np.uint8:
        raise BadInput(
            f"{where}: {values.dtype} values, and preprocessing was given, which applies to uint8 pixels. "
            f"Store the pixels as uint8, or leave out scale, mean and std where these are applied already."
        )
    return np.asarray(values, dtype=np.uint8)


def check_labels(values: NDArray[np.generic], count: int, where: str) -> NDArray[np.int64]:
    """Labels as int64, one (or one array of them) for each of `count` examples, none negative."""
    if values.dtype.kind not in "iu":
        raise BadInput(f"{where}: labels of type {values.dtype}. Store class numbers as integers (0, 1, 2, ...).")
    if values.ndim == 0 or len(values) != count:
        raise BadInput(
            f"{where}: labels of shape {show(values.shape)} for {count} examples. Store one label for each example."
        )
    labels = values.astype(np.int64)
    if labels.size and int(labels.min()) < 0:
        first = int(np.argwhere(labels < 0)[0][0])
        raise BadInput(
            f"{where}: label {int(labels.min())} is negative (first at example {first}). Number the classes from 0."
        )
    return labels


def show(shape: Sequence[int | None]) -> str:
    """A shape as people write it; a free batch is N, another free axis is ?."""
    names = [str(size) if size is not None else ("N" if axis == 0 else "?") for axis, size in enumerate(shape)]
    return "(" + ", ".join(names) + ")"


def _check_shape(shape: tuple[int, ...], spec: InputSpec, where: str) -> None:
    if not spec.shape:
        raise BadInput(f"Input {spec.name!r} of the network is a scalar: it has no batch axis. Export it with one.")
    wanted = (None, *spec.shape[1:])
    if not _fits(shape, wanted):
        raise BadInput(
            f"{where}: shape {show(shape)}, but input {spec.name!r} of the network takes {show(wanted)}. "
            f"{_shape_hint(shape, wanted)}"
        )
    if shape[0] == 0:
        raise BadInput(f"{where}: the set is empty, shape {show(shape)}. Store at least one example.")


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(w is None or w == s for s, w in zip(shape, wanted, strict=True))


def _shape_hint(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> str:
    if len(shape) == 4 and _fits([shape[axis] for axis in (0, 3, 1, 2)], wanted):
        return "It seems to be NHWC where the network is NCHW: store x.transpose(0, 3, 1, 2)."
    if len(shape) == 4 and _fits([shape[axis] for axis in (0, 2, 3, 1)], wanted):
        return "It seems to be NCHW where the network is NHWC: store x.transpose(0, 2, 3, 1)."
    if _fits((1, *shape), wanted):
        return "It seems to be one example without the batch axis: store x[None]."
    return "Store arrays of the network's shape, examples along the first axis."


def _cast(values: NDArray[np.generic], spec: InputSpec, where: str) -> NDArray[np.generic]:
    wanted = np.dtype(spec.dtype)
    if values.dtype == wanted:
        return values
    if values.dtype.kind == "f" and wanted.kind == "f":
        with np.errstate(over="ignore"):  # what overflows becomes inf, which the check for finite values reports
            return values.astype(wanted)
    if values.dtype.kind in "iu" and wanted.kind in "iu" and values.size:
        limits = np.iinfo(wanted)
        if int(values.min()) >= limits.min and int(values.max()) <= limits.max:
            return values.astype(wanted)
    advice = f"Store them as {wanted} (x.astype(np.{wanted}))."
    if values.dtype == np.uint8 and wanted.kind == "f":
        advice = f"Give the preprocessing of the pixels (scale, mean, std), or store normalised {wanted} values."
    raise BadInput(f"{where}: {values.dtype} values, but input {spec.name!r} of the network takes {wanted}. {advice}")


def _check_finite(values: NDArray[np.generic], where: str) -> None:
    if values.dtype.kind not in "fc":
        return
    rows = max(1, CHUNK_BYTES // max(1, values[:1].nbytes))
    for start in range(0, len(values), rows):
        chunk = values[start : start + rows]
        finite = np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1)
        if not finite.all():
            example = start + int(np.argmin(finite))
            kind = "NaN" if np.isnan(values[example]).any() else "an infinite value"
            raise BadInput(f"{where}: {kind} in example {example}. Remove or repair such examples before storing them.")
