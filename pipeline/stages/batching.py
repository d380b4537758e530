"""Whether a network takes several examples at once. Some files have their batch of one written into a Reshape."""

from pipeline.graph.execute import Runner
from pipeline.graph.feeds import draw
from pipeline.graph.model import Model, free_batch
from pipeline.graph.proof import outputs_agree
from targets.errors import BadInput

SCALE = 0.1  # of the random examples: small enough for what overflows on large ones
TOLERANCE = 1e-3  # kernels for two examples may add in another order than for one


def takes_batches(model: Model) -> bool:
    """Whether two random examples together come out as the first does alone, and one for each."""
    if not all(model.bound.values()):
        return False  # an input without axes belongs to no example
    pairs = {name: (2, *shape[1:]) for name, shape in model.bound.items()}
    proto = free_batch(model)
    feeds = draw(proto, pairs, 0, scale=SCALE)
    try:
        run = Runner(proto)
        together, alone = run(feeds), run({name: values[:1] for name, values in feeds.items()})
    except BadInput:  # the runtime says so at length; what follows from it is that examples go one by one
        return False
    if any(values.shape[:1] != (2,) for values in together.values()):
        return False
    return outputs_agree({name: values[:1] for name, values in together.items()}, alone) < TOLERANCE
