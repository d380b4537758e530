"""How far two results of one network are from each other (host and device side)."""

from __future__ import annotations

from typing import Any, Mapping

import numpy as np

# Runtimes reorder sums and pick other kernels; one known network moves by 3 %. Past this the engine is broken.
BROKEN = 0.1
# Integer kernels round where the graph's floats do not: a quantum here and there in every layer.
BROKEN_QUANTISED = 0.5


def outputs_differ(outputs: Mapping[str, np.ndarray[Any, Any]], others: Mapping[str, np.ndarray[Any, Any]]) -> float:
    """The largest relative difference over all of `others`; infinite where one is missing."""
    return max(difference(outputs[name], others[name]) if name in outputs else float("inf") for name in others)


def difference(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    """Relative to the largest of `theirs`; of integers the share that differs; infinite where shapes differ, or one is
    finite and the other is not."""
    if ours.shape != theirs.shape:
        return float("inf")
    if not np.issubdtype(theirs.dtype, np.floating):
        return float(np.mean(ours != theirs)) if theirs.size else 0.0
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(np.isfinite(a), finite) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    a, b = a[finite], b[finite]
    return float(np.max(np.abs(a - b)) / max(float(np.max(np.abs(b))), 1e-12))
