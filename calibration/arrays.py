"""Samples held in memory: .npz files, and what a Python entry point returns. Checked once, up front."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from calibration.batches import Batch, InputSpec, Samples
from calibration.checks import check_input, check_labels, check_pixels
from calibration.entry_points import load_entry_point
from calibration.preprocessing import Preprocessing, check_channels, normalise
from targets.errors import BadInput

INPUT_KEYS = ("x", "inputs", "images")  # for the input of a network that has one
LABEL_KEYS = ("y", "labels")


@final
class ArraySamples(Samples):
    """Arrays (examples first) by input name. The names in `normalised` hold pixels that are normalised when read."""

    def __init__(
        self,
        inputs: Mapping[str, NDArray[np.generic]],
        labels: NDArray[np.int64] | None,
        normalised: Mapping[str, tuple[Preprocessing, str]],
    ) -> None:
        self._inputs = dict(inputs)
        self._labels = labels
        self._normalised = dict(normalised)

    @property
    def labelled(self) -> bool:
        return self._labels is not None

    def __len__(self) -> int:
        return len(next(iter(self._inputs.values())))

    def read(self, indices: NDArray[np.int64]) -> Batch:
        inputs: dict[str, NDArray[np.generic]] = {}
        for name, values in self._inputs.items():
            rows = values[indices]
            if name in self._normalised:
                preprocessing, dtype = self._normalised[name]
                rows = normalise(rows.astype(np.uint8, copy=False), preprocessing, dtype)
            inputs[name] = rows
        return Batch(inputs, None if self._labels is None else self._labels[indices])


def read_npz(path: Path, specs: Sequence[InputSpec], preprocessing: Preprocessing | None) -> Samples:
    """Only the arrays that the network needs are read, and kept as they are stored (uint8 stays uint8)."""
    advice = "Write it with np.savez(path, x=..., y=...)."
    try:
        with path.open("rb") as file:  # np.load leaves a file open that it cannot read
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise BadInput(f"{path}: holds one bare array, not named ones. {advice}")
            arrays = {key: archive[key] for key in _keys(archive.files, specs, str(path))}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read as .npz ({error}). {advice}") from error
    return _from_named(arrays, specs, preprocessing, str(path))


def read_entry_point(text: str, specs: Sequence[InputSpec], preprocessing: Preprocessing | None) -> Samples:
    """Calls it without arguments. It returns inputs, (inputs, labels), a dict of both by name, or Samples.

    Inputs are one array, or a dict by the network's input names; labels in a dict are named `y` or `labels`.
    """
    result = load_entry_point(text, "Data source")()
    where = f"Data source {text}"
    if isinstance(result, Samples):
        return CheckedSamples(result, specs, where)
    labels: Any = None
    if isinstance(result, tuple):
        if len(result) != 2:
            raise BadInput(f"{where}: returned a tuple of {len(result)}. Return inputs, or (inputs, labels).")
        result, labels = result
    if isinstance(result, Mapping):
        named = {str(key): _array(value, f"{where}, {key!r}") for key, value in result.items()}
    elif len(specs) == 1:
        named = {specs[0].name: _array(result, where)}
    else:
        names = ", ".join(spec.name for spec in specs)
        raise BadInput(f"{where}: returned {type(result).__name__}, but the network has inputs {names}. Return a dict.")
    if labels is not None:
        inputs = {spec.name for spec in specs}
        named = {key: value for key, value in named.items() if key in inputs or key not in LABEL_KEYS}
        named[LABEL_KEYS[0]] = _array(labels, f"{where}, labels")
    return _from_named(named, specs, preprocessing, where)


@final
class CheckedSamples(Samples):
    """Samples that somebody else wrote: each batch is checked as it is read, the first one at once."""

    def __init__(self, samples: Samples, specs: Sequence[InputSpec], where: str) -> None:
        self._samples = samples
        self._specs = tuple(specs)
        self._where = where
        if len(samples) == 0:
            raise BadInput(f"{where}: the set is empty. Give at least one example.")
        self.read(np.zeros(1, dtype=np.int64))

    @property
    def labelled(self) -> bool:
        return self._samples.labelled

    def __len__(self) -> int:
        return len(self._samples)

    def read(self, indices: NDArray[np.int64]) -> Batch:
        batch = self._samples.read(indices)
        inputs: dict[str, NDArray[np.generic]] = {}
        for spec in self._specs:
            if spec.name not in batch.inputs:
                raise BadInput(
                    f"{self._where}: no input {spec.name!r}; there are: {', '.join(batch.inputs) or 'none'}."
                )
            values = check_input(batch.inputs[spec.name], spec, f"{self._where}, {spec.name!r}")
            _same_count(len(values), len(indices), f"{self._where}, {spec.name!r}")
            inputs[spec.name] = values
        if not self.labelled:
            return Batch(inputs, None)
        if batch.labels is None:
            raise BadInput(f"{self._where}: says that it is labelled and gave a batch without labels.")
        return Batch(inputs, check_labels(batch.labels, len(indices), self._where))


def _from_named(
    arrays: Mapping[str, NDArray[np.generic]],
    specs: Sequence[InputSpec],
    preprocessing: Preprocessing | None,
    where: str,
) -> Samples:
    keys = _keys(list(arrays), specs, where)
    inputs: dict[str, NDArray[np.generic]] = {}
    normalised: dict[str, tuple[Preprocessing, str]] = {}
    for key, spec in zip(keys, specs, strict=False):  # a key more than specs: the labels
        here = f"{where}, array {key!r}"
        if preprocessing is None or np.dtype(spec.dtype).kind != "f":
            inputs[spec.name] = check_input(arrays[key], spec, here)
        else:
            inputs[spec.name] = check_pixels(arrays[key], spec, here)
            check_channels(inputs[spec.name].shape, preprocessing, here)
            normalised[spec.name] = (preprocessing, spec.dtype)
    count = len(inputs[specs[0].name])
    for name, values in inputs.items():
        _same_count(len(values), count, f"{where}, input {name!r}")
    labels = None
    if len(keys) > len(specs):
        labels = check_labels(arrays[keys[-1]], count, f"{where}, array {keys[-1]!r}")
    return ArraySamples(inputs, labels, normalised)


def _keys(present: Sequence[str], specs: Sequence[InputSpec], where: str) -> list[str]:
    """The key of each input, in order, then that of the labels where there are any."""
    keys = []
    for spec in specs:
        allowed = list(dict.fromkeys((spec.name, *INPUT_KEYS))) if len(specs) == 1 else [spec.name]
        found = [key for key in allowed if key in present]
        if not found:
            raise BadInput(
                f"{where}: no array for input {spec.name!r} of the network; there are: {', '.join(present) or 'none'}. "
                f"Name it {' or '.join(allowed)}."
            )
        if len(found) > 1 and found[0] != spec.name:
            raise BadInput(
                f"{where}: input {spec.name!r} could be {' or '.join(found)}. Name the right one {spec.name}."
            )
        keys.append(found[0])
    labels = [key for key in LABEL_KEYS if key in present and key not in keys]
    if len(labels) > 1:
        raise BadInput(f"{where}: labels under both {' and '.join(labels)}. Keep one of them.")
    return keys + labels


def _array(value: Any, where: str) -> NDArray[np.generic]:
    try:
        array = np.asarray(value)
    except Exception as error:
        raise BadInput(f"{where}: {type(value).__name__} is no array ({error}). Return numpy arrays.") from error
    if array.dtype == object:
        raise BadInput(f"{where}: {type(value).__name__} is no array of numbers. Return numpy arrays.")
    return array


def _same_count(count: int, wanted: int, where: str) -> None:
    if count != wanted:
        raise BadInput(f"{where}: {count} examples where {wanted} were expected. Store as many for every input.")
