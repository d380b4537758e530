"""The models of `models` in int8, by the schemes of the runtimes."""

import numpy as np

from calibration.arrays import ArraySamples
from calibration.quantize import SCHEMES
from pipeline.graph.model import Model
from pipeline.stages.quantizing import quantise


def int8(model: Model, runtime: str) -> Model:
    """Calibrated on eight random pictures."""
    rng = np.random.default_rng(0)
    inputs = {name: rng.standard_normal((8, *shape[1:])).astype(np.float32) for name, shape in model.bound.items()}
    return quantise(model, ArraySamples(inputs, None, {}), SCHEMES[runtime], method="min-max").model
