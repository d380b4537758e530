"""Attention as one operator, and the rotation of its queries and keys by position."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.autograd.dtypes import TORCH_TYPES
from pipeline.autograd.node import Node, Operation, Rule

QK_OUTPUTS = (0, 1, 2, 3)  # raw, soft-capped, with the mask, after the softmax


def split_heads(x: Tensor, heads: int | None) -> Tensor:
    """(batch, sequence, heads x width) -> (batch, heads, sequence, width); four axes stay as they are."""
    if x.dim() == 4:
        return x
    assert heads is not None  # the schema asks for it
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(batch, heads, sequence, width) -> (batch, sequence, heads x width)."""
    return x.transpose(1, 2).flatten(2)


def _attention(node: Node) -> Operation:
    get = node.attributes.get
    causal, given_scale, cap = get("is_causal", 0), get("scale"), get("softcap", 0.0)
    q_heads, kv_heads, shown = get("q_num_heads"), get("kv_num_heads"), get("qk_matmul_output_mode", 0)
    window = (get("left_window_size", -1), get("right_window_size", -1))
    precision = get("softmax_precision")
    if shown not in QK_OUTPUTS or (precision and precision not in TORCH_TYPES):
        raise node.refusal(f"qk_matmul_output_mode {shown} or softmax_precision {precision} is unknown")
    plain = not (causal or cap or node.has(3) or node.has(6) or node.wants(3) or window != (-1, -1))

    def apply(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        past_k: Tensor | None = None,
        past_v: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor | None, ...]:
        three = q.dim() == 3
        q, k, v = split_heads(q, q_heads), split_heads(k, kv_heads), split_heads(v, kv_heads)
        past = 0 if past_k is None else past_k.shape[2]
        k = k if past_k is None else torch.cat([past_k, k], 2)
        v = v if past_v is None else torch.cat([past_v, v], 2)
        present = (k, v)
        repeats = q.shape[1] // k.shape[1]
        if repeats > 1:
            k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        scale = 1 / math.sqrt(q.shape[-1]) if given_scale is None else given_scale
        if plain:
            y = F.scaled_dot_product_attention(q, k, v, scale=scale)
            return (merge_heads(y) if three else y), *present
        raw = torch.matmul(q * math.sqrt(scale), k.transpose(-2, -1) * math.sqrt(scale))
        capped = cap * torch.tanh(raw / cap) if cap else raw
        bias = _bias(capped, mask, lengths, past=past, causal=bool(causal), window=window)
        scores = capped + bias
        shares = _masked_softmax(scores.to(TORCH_TYPES[precision]) if precision else scores, bias).to(q.dtype)
        y = torch.matmul(shares, v)
        return (merge_heads(y) if three else y), *present, (raw, capped, scores, shares)[shown].to(q.dtype)

    return apply


def _bias(
    scores: Tensor,
    mask: Tensor | None,
    lengths: Tensor | None,
    *,
    past: int,
    causal: bool,
    window: tuple[int, int],
) -> Tensor:
    """What is added to the scores (broadcastable to them): 0 or the mask where a key may be attended, else -inf."""
    queries, keys = scores.shape[-2:]
    bias = torch.zeros((queries, keys), dtype=scores.dtype, device=scores.device)
    if mask is not None:
        short = keys - mask.shape[-1]
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -math.inf)
        bias = bias + (F.pad(mask, (0, short), value=-math.inf) if short > 0 else mask)
    at = torch.arange(keys, device=scores.device)
    first: Any = past
    if lengths is not None:
        if past == 0:
            first = (lengths.reshape(-1) - queries).reshape(-1, 1, 1, 1)
        bias = bias.masked_fill(at >= lengths.reshape(-1, 1, 1, 1), -math.inf)
    ahead = at - (torch.arange(queries, device=scores.device).reshape(-1, 1) + first)
    left, right = window
    right = 0 if causal else right
    if right >= 0:
        bias = bias.masked_fill(ahead > right, -math.inf)
    return bias.masked_fill(-ahead > left, -math.inf) if left >= 0 else bias


def _masked_softmax(scores: Tensor, bias: Tensor) -> Tensor:
    """Zero, and no gradient, for queries that may attend to nothing."""
    nothing = (bias == -math.inf).all(-1, keepdim=True)
    return F.softmax(scores.masked_fill(nothing, 0.0), -1).masked_fill(nothing, 0.0)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor, *, interleaved: bool, width: int) -> Tensor:
    """Rotates pairs of the first `width` entries (0: all) of x (batch, sequence, heads, entries)."""
    width = width or x.shape[-1]
    turned, rest = x[..., :width], x[..., width:]
    a, b = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    cosine, sine = cosine.unsqueeze(-2), sine.unsqueeze(-2)
    pair = (cosine * a - sine * b, sine * a + cosine * b)
    turned = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
    return torch.cat([turned, rest], -1)


def _linear_attention(node: Node) -> Operation:
    """One step after the other: the state decays, is corrected, written to and read, as the update rule says."""
    get = node.attributes.get
    q_heads, kv_heads, scale = get("q_num_heads"), get("kv_num_heads"), get("scale", 0.0)
    get("update_rule")  # which of decay and beta are there says the same
    get("chunk_size")  # how fast, not what

    def apply(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        past: Tensor | None = None,
        decay: Tensor | None = None,
        beta: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
        kept = q.dtype if past is None else past.dtype
        queries, keys, values = (split_heads(x.to(dtype), h) for x, h in ((q, q_heads), (k, kv_heads), (v, kv_heads)))
        factor = scale or 1 / math.sqrt(queries.shape[-1])
        state = keys.new_zeros((*keys.shape[:2], keys.shape[-1], values.shape[-1])) if past is None else past.to(dtype)
        fades = None if decay is None else split_heads(decay.to(dtype), kv_heads).exp()
        rates = None if beta is None else split_heads(beta.to(dtype), beta.shape[-1])
        rows = []
        for step in range(queries.shape[2]):
            key, value = keys[:, :, step], values[:, :, step]
            if fades is not None:
                state = state * fades[:, :, step].unsqueeze(-1)
            if rates is not None:
                value = rates[:, :, step] * (value - torch.einsum("bhdm,bhd->bhm", state, key))
            state = state + key.unsqueeze(-1) * value.unsqueeze(-2)
            read = state.repeat_interleave(q_heads // kv_heads, 1)
            rows.append(factor * torch.einsum("bhd,bhdm->bhm", queries[:, :, step], read))
        return torch.stack(rows, 1).flatten(2).to(q.dtype), state.to(kept)

    return apply


def _rotary_embedding(node: Node) -> Operation:
    interleaved, width = bool(node.attributes.get("interleaved", 0)), node.attributes.get("rotary_embedding_dim", 0)
    heads = node.attributes.get("num_heads", 0)

    def apply(x: Tensor, cosines: Tensor, sines: Tensor, positions: Tensor | None = None) -> Tensor:
        if positions is not None:
            cosines, sines = cosines[positions], sines[positions]
        if x.dim() == 4:
            turned = rotate(x.transpose(1, 2), cosines, sines, interleaved=interleaved, width=width)
            return turned.transpose(1, 2)
        return rotate(x.unflatten(2, (heads, -1)), cosines, sines, interleaved=interleaved, width=width).flatten(2)

    return apply


def _tensor_scatter(node: Node) -> Operation:
    mode, axis = node.attributes.get("mode", "linear"), node.attributes.get("axis", -2)
    if mode not in ("linear", "circular"):
        raise node.refusal(f"mode {mode!r} is unknown")

    def apply(cache: Tensor, update: Tensor, at: Tensor | None = None) -> Tensor:
        along = axis % cache.dim()
        positions = torch.arange(update.shape[along], device=cache.device).reshape(1, -1)
        positions = positions if at is None else positions + at.reshape(-1, 1)
        positions = positions % cache.shape[along]
        shape = [1] * cache.dim()
        shape[0], shape[along] = positions.shape
        return cache.scatter(along, positions.reshape(shape).expand_as(update), update)

    return apply


RULES: dict[str, Rule] = {
    "Attention": Rule(_attention),
    "LinearAttention": Rule(_linear_attention, remark="unrolled step by step"),
    "RotaryEmbedding": Rule(_rotary_embedding),
    "TensorScatter": Rule(_tensor_scatter),
}
