"""The ONNX graph as a torch module: gradients for importance and recovery, written back by name."""

from pipeline.autograd.module import OnnxModule
from pipeline.autograd.supported import Supported, supported

__all__ = ["OnnxModule", "Supported", "supported"]
