"""The baseline every paper compares with."""

import zlib

import numpy as np

from pipeline.importance.criteria import Request, Scores


def uniform(request: Request) -> Scores:
    """Uniform noise in [0, 1), from the seed and the group's id: independent of which other groups there are."""
    return {
        group.id: np.random.default_rng([request.seed, zlib.crc32(group.id.encode())]).random(group.channels)
        for group in request.groups
    }
