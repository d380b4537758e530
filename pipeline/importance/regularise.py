"""Cost regularisation (Molchanov et al. 2017): a channel that costs much must matter more to stay."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from targets.errors import BadInput


def regularise(
    scores: Mapping[str, NDArray[np.float64]],
    costs: Mapping[str, NDArray[np.float64] | float],
    strength: float,
) -> dict[str, NDArray[np.float64]]:
    """score - strength * cost, channel by channel. Scores should be normalised before.

    `costs`: group id -> cost of one channel, a number or an array of the scores' shape, in whatever unit `strength`
    undoes (FLOPs, parameters, memory, bytes moved, measured latency). BadInput: a group without a cost, another shape,
    a strength that is negative or not finite.
    """
    if not (np.isfinite(strength) and strength >= 0):
        raise BadInput(f"Regularisation strength {strength} makes no sense. Give a number of at least 0.")
    result = {}
    for name, values in scores.items():
        if name not in costs:
            raise BadInput(f"Group {name} has a score and no cost. Compute costs for the same groups.")
        cost = np.asarray(costs[name], np.float64)
        if cost.shape not in ((), values.shape):
            raise BadInput(f"Group {name} has {values.shape} scores and {cost.shape} costs. Give one cost per channel.")
        result[name] = values - strength * cost
    return result
