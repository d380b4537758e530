"""Making scores comparable across groups: a choice of its own, after the criterion and before any cost."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from targets.errors import BadInput

# name -> the number that a group's scores are divided by
NORMALISATIONS: dict[str, Callable[[NDArray[np.float64]], float]] = {
    "none": lambda scores: 1.0,
    "mean": lambda scores: float(np.mean(np.abs(scores))),
    "max": lambda scores: float(np.max(np.abs(scores))),
    "l2": lambda scores: float(np.linalg.norm(scores)),  # Molchanov et al. 2017
    "sum": lambda scores: float(np.sum(np.abs(scores))),
}


def normalise(scores: Mapping[str, NDArray[np.float64]], how: str) -> dict[str, NDArray[np.float64]]:
    """Each group's scores divided by their own mean, maximum, l2 norm or sum (of absolute values); shapes stay.

    A group whose scores are all zero stays all zero. BadInput: unknown `how`.
    """
    if how not in NORMALISATIONS:
        raise BadInput(f"Normalisation {how!r} is unknown. Known: {', '.join(NORMALISATIONS)}.")
    divisor = NORMALISATIONS[how]
    return {
        name: values / (divisor(values) if np.any(values) else 1.0)
        for name, values in ((name, np.asarray(values, np.float64)) for name, values in scores.items())
    }


def default_normalisation(criterion: str) -> str:
    """What a criterion wants when nobody chose: gate gradients of all groups speak of the same loss, others do not."""
    return "none" if criterion == "taylor-gate" else "l2"
