"""Every group of a grouped convolution makes equally many channels, whichever these are."""

import numpy as np

from pipeline.graph.labels import Labelling


def keep_balance(run: Labelling) -> None:
    """Unite the same inner channels of all groups where removing a class would take more from one than from another.

    Often what reads the channels has united one of every group already (behind a shuffle another one of each), and then
    nothing more is needed. Classes that only grow later stay balanced.
    """
    for blocks in run.balanced:
        classes = np.sort(run.classes.find(blocks), axis=1)
        if (classes != classes[:1]).any():
            run.classes.unite(blocks[:1], blocks)
