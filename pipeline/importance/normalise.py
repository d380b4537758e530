"""Making scores comparable across groups: a choice of its own, after the criterion and before any cost."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from targets.errors import BadInput

NORMALISATIONS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "none": lambda scores: scores,
    "mean": lambda scores: scores / np.mean(np.abs(scores)),
    "max": lambda scores: scores / np.max(np.abs(scores)),
    "l2": lambda scores: scores / np.linalg.norm(scores),  # Molchanov et al. 2017
    "sum": lambda scores: scores / np.sum(np.abs(scores)),
    "root": lambda scores: np.sign(scores) * np.sqrt(np.abs(scores)),
}


def normalise(scores: Mapping[str, NDArray[np.float64]], how: str) -> dict[str, NDArray[np.float64]]:
    """Each group's scores divided by their own mean, maximum, l2 norm or sum (of absolute values); shapes stay.

    "root" takes the (signed) square root instead: squared gradients back in units of loss, so that sums over channels
    and groups speak of the same thing. A group whose scores are all zero stays all zero. BadInput: unknown `how`.
    """
    if how not in NORMALISATIONS:
        raise BadInput(f"Normalisation {how!r} is unknown. Known: {', '.join(NORMALISATIONS)}.")
    normalisation = NORMALISATIONS[how]
    return {
        name: normalisation(values) if np.any(values) else values
        for name, values in ((name, np.asarray(values, np.float64)) for name, values in scores.items())
    }


def default_normalisation(criterion: str) -> str:
    """What a criterion wants when nobody chose: gate gradients of all groups speak of the same loss, others do not."""
    return "root" if criterion == "taylor-gate" else "l2"
