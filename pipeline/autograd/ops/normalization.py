"""Normalisations, with the statistics that training updates."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.autograd.dtypes import TORCH_TYPES
from pipeline.autograd.node import Mode, Node, Operation, Rule


def _batch_normalization(node: Node) -> Operation:
    """train(): batch statistics; those that are initialisers are updated in place, as torch does (unbiased variance,
    ONNX momentum m = torch momentum 1 - m). eval(): stored statistics, whatever `training_mode` says.

    The further outputs of `training_mode` 1 follow ONNX: running statistics with the population variance.
    """
    epsilon, own = node.attributes.get("epsilon", 1e-5), 1 - node.attributes.get("momentum", 0.9)
    node.attributes.get("training_mode")  # train() and eval() decide
    node.attributes.get("is_test")  # before opset 7: the same
    if node.attributes.get("spatial", 1) != 1:
        raise node.refusal("spatial=0 (statistics per position)")
    if node.opset < 14 and any(node.wants(index) for index in range(1, 5)):
        raise node.refusal("statistics as outputs before opset 14 are not defined well enough to follow")
    owned = {3, 4} <= node.initialised
    outputs = sum(node.wants(index) for index in range(3))

    def apply(mode: Mode, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Any:
        if not mode.training and not owned and (mean.requires_grad or variance.requires_grad):
            shape = (-1, *[1] * (x.dim() - 2))  # torch's own passes no gradient to statistics that are computed
            factor = scale * torch.rsqrt(variance + epsilon)
            y = (x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)
            return y if outputs == 1 else (y, mean, variance)
        if not mode.training:
            y = F.batch_norm(x, mean, variance, scale, bias, False, 0.0, epsilon)
            return y if outputs == 1 else (y, mean, variance)
        share = own if mode.momentum is None else mode.momentum
        kept_mean, kept_variance = (mean, variance) if owned else (None, None)
        if outputs == 1:
            return F.batch_norm(x, kept_mean, kept_variance, scale, bias, True, share, epsilon)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        seen_mean, seen_variance = x.mean(axes), x.var(axes, correction=0)
        new_mean = mean * (1 - share) + seen_mean.detach() * share
        new_variance = variance * (1 - share) + seen_variance.detach() * share
        return F.batch_norm(x, kept_mean, kept_variance, scale, bias, True, share, epsilon), new_mean, new_variance

    return apply


def _instance_normalization(node: Node) -> Operation:
    epsilon = node.attributes.get("epsilon", 1e-5)

    def apply(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)

    return apply


def _layer_normalization(node: Node) -> Operation:
    axis, epsilon = node.attributes.get("axis", -1), node.attributes.get("epsilon", 1e-5)
    _refuse_stash(node)
    alone = not (node.wants(1) or node.wants(2))

    def apply(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
        normalized = x.shape[axis:]
        if alone and scale.shape == normalized and (bias is None or bias.shape == normalized):
            return F.layer_norm(x, normalized, scale, bias, epsilon)
        axes = list(range(axis % x.dim(), x.dim()))
        mean = x.mean(axes, keepdim=True)
        inverse = torch.rsqrt(x.var(axes, correction=0, keepdim=True) + epsilon)
        y = (x - mean) * inverse * scale
        y = y if bias is None else y + bias
        return y if alone else (y, mean, inverse)

    return apply


def _group_normalization(node: Node) -> Operation:
    groups, epsilon = node.attributes.get("num_groups"), node.attributes.get("epsilon", 1e-5)
    _refuse_stash(node)
    per_group = node.opset < 21

    def apply(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if per_group:
            repeats = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
        return F.group_norm(x, groups, scale, bias, epsilon)

    return apply


def _refuse_stash(node: Node) -> None:
    if TORCH_TYPES.get(node.attributes.get("stash_type", 1)) != torch.float32:
        raise node.refusal("stash_type other than float32")


def _lrn(node: Node) -> Operation:
    size, alpha = node.attributes.get("size"), node.attributes.get("alpha", 1e-4)
    beta, bias = node.attributes.get("beta", 0.75), node.attributes.get("bias", 1.0)

    def apply(x: Tensor) -> Tensor:
        rows = (x * x).flatten(2).unsqueeze(1)  # channels become a spatial axis to sum windows over
        rows = F.pad(rows, (0, 0, (size - 1) // 2, size // 2))
        means = F.avg_pool2d(rows, (size, 1), stride=1).squeeze(1).reshape(x.shape)
        y: Tensor = x / (bias + alpha * means) ** beta
        return y

    return apply


def _rms_normalization(node: Node) -> Operation:
    axis, epsilon = node.attributes.get("axis", -1), node.attributes.get("epsilon", 1e-5)
    _refuse_stash(node)

    def apply(x: Tensor, scale: Tensor) -> Tensor:
        axes = list(range(axis % x.dim(), x.dim()))
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        return (wide * torch.rsqrt((wide * wide).mean(axes, keepdim=True) + epsilon)).to(x.dtype) * scale

    return apply


def _lp_normalization(node: Node) -> Operation:
    axis, order = node.attributes.get("axis", -1), node.attributes.get("p", 2)

    def apply(x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, order, axis, keepdim=True)
        return x / torch.where(norm == 0, torch.ones_like(norm), norm)

    return apply


def _mean_variance_normalization(node: Node) -> Operation:
    axes = list(node.attributes.get("axes", (0, 2, 3)))

    def apply(x: Tensor) -> Tensor:
        centred = x - x.mean(axes, keepdim=True)
        return centred / ((centred * centred).mean(axes, keepdim=True).sqrt() + 1e-9)  # ONNX gives the constant

    return apply


RULES: dict[str, Rule] = {
    "BatchNormalization": Rule(_batch_normalization, trains=True),
    "GroupNormalization": Rule(_group_normalization),
    "InstanceNormalization": Rule(_instance_normalization),
    "LRN": Rule(_lrn),
    "LayerNormalization": Rule(_layer_normalization),
    "LpNormalization": Rule(_lp_normalization),
    "MeanVarianceNormalization": Rule(_mean_variance_normalization),
    "RMSNormalization": Rule(_rms_normalization),
}
