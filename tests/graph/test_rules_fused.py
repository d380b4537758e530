"""What ONNX Runtime writes into the models that it has optimised."""

from typing import Any

import pytest

from tests.graph.small import coupled, is_exact

WORDS = "float[5,6] x"
WEIGHTS: dict[str, Any] = {"w": (6, 4), "u": (4, 3), "k": (4,), "v": (4, 4)}

CASES = {
    "gelu": "b = com.microsoft.Gelu(a)",
    "gelu with a bias": "b = com.microsoft.BiasGelu(a, k)",
    "fast gelu": "b = com.microsoft.FastGelu(a)",
    "fast gelu with a bias": "b = com.microsoft.FastGelu(a, k)",
    "quick gelu": "b = com.microsoft.QuickGelu<alpha = 1.7>(a)",
    "product with an activation": 'b = com.microsoft.FusedGemm<activation = "Relu">(a, v, k)',
    "scaled product": "b = com.microsoft.FusedMatMul<alpha = 0.5>(a, v)",
}


@pytest.mark.parametrize("case", CASES)
def test_fused_operator_is_followed(case) -> None:
    used = {name: shape for name, shape in WEIGHTS.items() if name in "wu" or name in CASES[case].split("(")[1]}
    model, channels, groups = coupled(WORDS, f"a = MatMul(x, w) {CASES[case]} y = MatMul(b, u)", **used)
    assert (groups["a"].channels, groups["a"].locked_because) == (4, None)
    assert is_exact(model, channels, {"a": (0, 3)})


def test_fused_product_that_transposes_is_locked_and_not_misread() -> None:
    body = "a = MatMul(x, w) b = com.microsoft.FusedMatMul<transB = 1>(a, v) y = MatMul(b, u)"
    _, _, groups = coupled(WORDS, body, w=(6, 4), v=(7, 4), u=(7, 3))
    assert "transposes what it multiplies" in (groups["a"].locked_because or "")
