"""A torch network as an ONNX file."""

import warnings
from pathlib import Path

import torch
from torch import nn

OPSET = 17


def export(
    network: nn.Module, path: Path, size: int = 224, *, keep_batch_norm: bool = True, image: str = "image"
) -> Path:
    """Write `network` in eval mode, with input `image` (batch, 3, size, size), output `logits`, and a free batch.

    `keep_batch_norm`: batch-norm stays a node of its own, so that it can be trained on; else it is folded into the
    convolution before it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    mode = torch.onnx.TrainingMode.PRESERVE if keep_batch_norm else torch.onnx.TrainingMode.EVAL
    with warnings.catch_warnings():
        # The newer exporter folds batch-norm away; the older one keeps it, and says twice that it is the older one.
        warnings.filterwarnings("ignore", message=".*legacy TorchScript-based ONNX export", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="The feature will be removed", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="Constant folding - Only steps=1", category=UserWarning)
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 3, size, size),),
            str(beside),
            input_names=[image],
            output_names=["logits"],
            dynamic_axes={image: {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            training=mode,
            do_constant_folding=not keep_batch_norm,
            dynamo=False,
        )
    beside.replace(path)
    return path
