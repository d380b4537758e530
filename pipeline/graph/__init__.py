"""The ONNX graph: loading, coupled channels by label execution, the cut and its proof, and what it costs."""
