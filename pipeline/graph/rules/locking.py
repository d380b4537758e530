"""Operators that no cut can pass, each with its reason; and those that make a tensor from sizes."""

from collections.abc import Callable

from pipeline.graph.labels import Labelling
from pipeline.graph.rules.node import Node, Outputs, lock_others, refuse

Rule = Callable[[Node, Labelling], Outputs]

BODY = "runs a graph of its own, which is not followed"
SEQUENCE = "works on a sequence of tensors, whose members are not followed"
STATE = "carries a state from call to call, which is not followed"
TEXT = "works on text"
LOSS = "is a loss: it reads the score of every class"
POSITIONS = "answers with positions, and whoever reads those counts on all channels"
RANDOM = "draws random numbers, and would draw others for fewer channels"

LOCKED: dict[str, str] = {
    "AffineGrid": "makes a sampling grid of all the numbers it reads",
    "CausalConvWithState": STATE,
    "ConcatFromSequence": SEQUENCE,
    "Einsum": "sums over more letters than can be written as one matrix product",
    "If": BODY,
    "ImageDecoder": "decodes an image file",
    "LinearAttention": STATE,
    "Loop": BODY,
    "MelWeightMatrix": "makes a filter bank of all the numbers it reads",
    "NegativeLogLikelihoodLoss": LOSS,
    "NonMaxSuppression": "chooses among boxes by all of their coordinates and scores",
    "NonZero": POSITIONS,
    "Optional": "wraps a tensor that may be missing, which is not followed",
    "OptionalGetElement": "unwraps a tensor that may be missing, which is not followed",
    "OptionalHasElement": "asks whether a tensor is missing, which is not followed",
    "RegexFullMatch": TEXT,
    "STFT": "transforms a signal, which has no channels",
    "Scan": BODY,
    "SequenceAt": SEQUENCE,
    "SequenceConstruct": SEQUENCE,
    "SequenceEmpty": SEQUENCE,
    "SequenceErase": SEQUENCE,
    "SequenceInsert": SEQUENCE,
    "SequenceLength": SEQUENCE,
    "SequenceMap": SEQUENCE,
    "SoftmaxCrossEntropyLoss": LOSS,
    "SplitToSequence": SEQUENCE,
    "StringConcat": TEXT,
    "StringNormalizer": TEXT,
    "StringSplit": TEXT,
    "TfIdfVectorizer": TEXT,
    "Unique": POSITIONS,
    "Bernoulli": RANDOM,
    "Multinomial": RANDOM,
    "RandomNormalLike": RANDOM,
    "RandomUniformLike": RANDOM,
}
# These read sizes and bounds, and their result is fixed like a constant.
MAKERS = (
    "BlackmanWindow", "Constant", "ConstantOfShape", "EyeLike", "HammingWindow", "HannWindow", "RandomNormal",
    "RandomUniform", "Range",
)  # fmt: skip


def locking(why: str) -> Rule:
    """A rule that locks what the node touches, for this reason."""

    def locks(node: Node, run: Labelling) -> Outputs:
        return refuse(node, run, why)

    return locks


def maker(node: Node, run: Labelling) -> Outputs:
    """Makes a tensor of sizes and bounds, which counts as a constant; what it reads stays whole."""
    lock_others(node, run, first=0)
    return (None,) * len(node.outputs)


def dropout(node: Node, run: Labelling) -> Outputs:
    """Does nothing, unless the graph says that it is being trained; the mask has the channels of what it masks."""
    training = node.constant(2)
    if node.has(2) and (training is None or training.any()):
        return refuse(node, run, RANDOM)
    lock_others(node, run)
    return (node.labels(run),) * len(node.outputs)


RULES: dict[str, Rule] = {
    **{operator: locking(why) for operator, why in LOCKED.items()},
    **dict.fromkeys(MAKERS, maker),
    "Dropout": dropout,
}
