"""Channels become space and space becomes channels."""

from pipeline.graph.labels import Labelling, simplify
from pipeline.graph.rules.node import Node, Outputs, refuse


def depth_to_space(node: Node, run: Labelling) -> Outputs:
    """(N, C * b * b, H, W) -> (N, C, H * b, W * b); DCR keeps the block outermost, CRD innermost."""
    labels = node.labels(run)
    if labels is None:
        return (None,)
    block = int(node.attributes["blocksize"])
    if labels.ndim != 4 or block < 1 or labels.shape[1] % block**2:
        return refuse(node, run, f"has blocks of {block}, into which its input of {labels.shape} does not divide")
    n, c, h, w = labels.shape
    if node.attributes.get("mode", b"DCR") == b"CRD":
        blocks = labels.reshape(n, c // block**2, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    else:
        blocks = labels.reshape(n, block, block, c // block**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    return (simplify(blocks.reshape(n, c // block**2, h * block, w * block)),)


def space_to_depth(node: Node, run: Labelling) -> Outputs:
    """The other way round; before opset 28 the block is always outermost."""
    labels = node.labels(run)
    if labels is None:
        return (None,)
    block = int(node.attributes["blocksize"])
    if labels.ndim != 4 or block < 1 or labels.shape[2] % block or labels.shape[3] % block:
        return refuse(node, run, f"has blocks of {block}, into which its input of {labels.shape} does not divide")
    n, c, h, w = labels.shape
    crd = node.attributes.get("mode", b"DCR") == b"CRD"
    order = (0, 1, 3, 5, 2, 4) if crd else (0, 3, 5, 1, 2, 4)
    blocks = labels.reshape(n, c, h // block, block, w // block, block).transpose(order)
    return (simplify(blocks.reshape(n, c * block**2, h // block, w // block)),)


RULES = {"DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth}
