"""Recurrent operators: what they read may be cut, their hidden state may not."""

from pipeline.graph.labels import ChannelRead, Labelling, labelled_axes
from pipeline.graph.rules.node import Node, Outputs, refuse
from pipeline.graph.rules.parameter import parameter, use

FEATURES = 2  # of the input (steps, batch, features), or (batch, steps, features) with layout 1; and of the weight


def recurrent(node: Node, run: Labelling) -> Outputs:
    """LSTM, GRU and RNN: weight (directions, gates * hidden, features) reads the input's features."""
    labels = node.labels(run)
    if labels is not None and (labelled_axes(labels) != (FEATURES,) or parameter(node, run, 1) is None):
        return refuse(node, run, "steps over an axis that carries channels, or has a weight that is computed")
    reason = f"{node.op} ({node.name}) makes a hidden state, whose width every gate and step shares: it stays"
    for name in node.inputs[1:]:
        run.lock(run.tensors.get(name), reason)
    for name in node.outputs:
        run.pinned[name] = reason
    if labels is not None:
        line = run.along(labels, FEATURES)
        use(node, run, 1, FEATURES, line, "reads")
        run.reads.append(ChannelRead(node.name, 0, node.inputs[0], FEATURES, line))
    return (None,) * len(node.outputs)


RULES = dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent)
