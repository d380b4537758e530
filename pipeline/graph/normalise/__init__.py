"""One plain form for every graph, so that the stages after it meet no special case.

What it promises: functions inlined, and branches that are always taken; no sparse tensors; no Constant nodes, constants
folded; initialisers are neither graph inputs nor shared between two readers; every node has a unique name; sizes that
do not depend on a free dimension are constants; Reshape carries the batch along (0) instead of a baked 1; sequences
that are only taken apart again are Splits; nothing stands between a quantised parameter and its one reader; no dead
nodes. Weights keep their names.
"""

from collections.abc import Callable

import onnx

from pipeline.graph.editing import captured_names, opset
from pipeline.graph.normalise.batch import reshapes_carry_the_batch
from pipeline.graph.normalise.constants import constants_are_folded, constants_are_initialisers
from pipeline.graph.normalise.dead import dead_nodes_are_gone, identities_are_gone
from pipeline.graph.normalise.decided import decided_branches_are_inlined
from pipeline.graph.normalise.defaults import default_axes_are_written
from pipeline.graph.normalise.einsum import einsums_are_products
from pipeline.graph.normalise.expansions import (
    expansions_are_left_to_broadcasting,
    expansions_name_only_what_grows,
)
from pipeline.graph.normalise.functions import inlined
from pipeline.graph.normalise.inputs import free_sizes_have_names, initialisers_are_not_inputs
from pipeline.graph.normalise.names import nodes_have_names
from pipeline.graph.normalise.noise import casts_name_their_type, zero_biases_are_gone
from pipeline.graph.normalise.quantised import movement_goes_before_dequantising, quantised_parameters_are_unshared
from pipeline.graph.normalise.sequences import sequences_are_splits
from pipeline.graph.normalise.shuffles import shuffles_are_gathers
from pipeline.graph.normalise.sizes import sizes_are_constants
from pipeline.graph.normalise.sparse import sparse_constants_are_dense
from pipeline.graph.normalise.unshare import initialisers_are_unshared
from pipeline.graph.shapes import Shapes

__all__ = ["PASSES", "captured_names", "constants_are_folded", "dead_nodes_are_gone", "normalise", "opset"]

Pass = Callable[[onnx.ModelProto, Shapes], None]

# Names first, since later passes derive names from them; folding lays bare what is shared, so unshare after it.
PASSES: tuple[Pass, ...] = (
    sparse_constants_are_dense,
    initialisers_are_not_inputs,
    free_sizes_have_names,
    nodes_have_names,
    constants_are_initialisers,
    default_axes_are_written,
    einsums_are_products,
    identities_are_gone,
    casts_name_their_type,
    zero_biases_are_gone,
    sequences_are_splits,
    constants_are_folded,
    sizes_are_constants,
    constants_are_folded,
    decided_branches_are_inlined,
    reshapes_carry_the_batch,
    shuffles_are_gathers,
    expansions_are_left_to_broadcasting,
    expansions_name_only_what_grows,
    dead_nodes_are_gone,
    quantised_parameters_are_unshared,
    initialisers_are_unshared,
    movement_goes_before_dequantising,
    dead_nodes_are_gone,
)


def normalise(proto: onnx.ModelProto, bound: Shapes) -> onnx.ModelProto:
    """The plain form of `proto`, which is used up; `bound` gives the inputs' shapes where they are free."""
    plain = inlined(proto)
    del plain.graph.value_info[:]  # true at one binding at most, and passes ask at two
    for step in PASSES:
        step(plain, bound)
    return plain
