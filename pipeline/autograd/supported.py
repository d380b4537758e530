"""What the module can evaluate and train, as data: read off the rules themselves."""

from dataclasses import dataclass

from pipeline.autograd.node import Gradient
from pipeline.autograd.ops import DOMAINS
from pipeline.autograd.versions import versions_from


@dataclass(frozen=True)
class Supported:
    """One operator that OnnxModule evaluates.

    `versions` are the versions of its schema (ONNX's "since version") that the rule reads, oldest first; the first one
    is the version in force at opset 7 where the operator is older than that. Other domains than ONNX's own have one.
    `gradient`: "exact", "straight-through" (rounding counts as the identity) or "none" (no floats in or out).
    `remark`: what else to know, in a few words, or "".
    """

    domain: str
    op: str
    versions: tuple[int, ...]
    gradient: Gradient
    remark: str = ""

    @property
    def differentiable(self) -> bool:
        return self.gradient != "none"


def supported() -> tuple[Supported, ...]:
    """Every operator that has a rule, by domain and name; Constant, which needs none, is not listed."""
    return tuple(
        Supported(domain, op, (1,) if domain else versions_from(op, rule.since), rule.gradient, rule.remark)
        for domain, rules in sorted(DOMAINS.items())
        for op, rule in sorted(rules.items())
    )
