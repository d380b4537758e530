"""The ONNX graph as a torch module: gradients for importance and recovery, written back by name."""

from pipeline.autograd.module import OnnxModule

__all__ = ["OnnxModule"]
