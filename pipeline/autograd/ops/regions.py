"""Regions of interest: RoiAlign, MaxRoiPool, and the choice among overlapping boxes."""

import math

import torch
from torch import Tensor

from pipeline.autograd.node import Node, Operation, Rule
from pipeline.autograd.sizes import Sizes


def _line(start: Tensor, size: Tensor, bins: int, samples: int, extent: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where `samples` points in each of `bins` bins lie along one axis: lower and upper pixel, share, inside or not."""
    steps = torch.arange(bins * samples, device=start.device, dtype=start.dtype)
    at = start.reshape(-1, 1) + (steps + 0.5) * (size / (bins * samples)).reshape(-1, 1)
    inside = (at >= -1.0) & (at <= extent)
    at = at.clamp(min=0.0)
    low = at.floor().clamp(max=extent - 1)
    at = torch.where(low >= extent - 1, low, at)
    return low.long(), (low + 1).clamp(max=extent - 1).long(), at - low, inside


def _roi_align(node: Node) -> Operation:
    get = node.attributes.get
    mode, height, width = get("mode", "avg"), get("output_height", 1), get("output_width", 1)
    ratio, scale = get("sampling_ratio", 0), get("spatial_scale", 1.0)
    half = get("coordinate_transformation_mode", "half_pixel") == "half_pixel" and node.opset >= 16
    if mode not in ("avg", "max"):
        raise node.refusal(f"mode {mode!r} is unknown")

    def one(image: Tensor, roi: Tensor) -> Tensor:
        """One region (4 numbers) of one image (channels, height, width) -> (channels, bins, bins)."""
        start, end = (roi * scale - (0.5 if half else 0.0)).chunk(2)
        size = end - start if half else (end - start).clamp(min=1.0)
        rows, columns = (
            ratio or max(math.ceil(float(extent) / bins), 1) for extent, bins in ((size[1], height), (size[0], width))
        )
        top, bottom, down, in_rows = _line(start[1], size[1], height, rows, image.shape[1])
        left, right, across, in_columns = _line(start[0], size[0], width, columns, image.shape[2])
        corners = []
        for y, share_y in ((top, 1 - down), (bottom, down)):
            for x, share_x in ((left, 1 - across), (right, across)):
                pixels = image[:, y.reshape(-1, 1), x.reshape(1, -1)]
                corners.append(pixels * (share_y.reshape(-1, 1) * share_x.reshape(1, -1)))
        counted = (in_rows.reshape(-1, 1) & in_columns.reshape(1, -1)).to(image.dtype)
        # "max" is the greatest of the weighted corners, as ONNX's reference and its runtime have it
        read = (sum(corners) if mode == "avg" else torch.stack(corners).amax(0)) * counted
        bins = read.reshape(-1, height, rows, width, columns)
        return bins.mean((2, 4)) if mode == "avg" else bins.amax((2, 4))

    def apply(x: Tensor, rois: Tensor, batch: Tensor) -> Tensor:
        if len(rois) == 0:
            return x.new_zeros((0, x.shape[1], height, width))
        return torch.stack([one(x[int(at)], roi) for at, roi in zip(batch, rois, strict=True)])

    return apply


def _max_roi_pool(node: Node) -> Operation:
    height, width = node.attributes.get("pooled_shape")
    scale = node.attributes.get("spatial_scale", 1.0)

    def bounds(low: int, extent: int, bins: int, size: int) -> list[tuple[int, int]]:
        edges = [(low + math.floor(b * extent / bins), low + math.ceil((b + 1) * extent / bins)) for b in range(bins)]
        return [(min(max(begin, 0), size), min(max(end, 0), size)) for begin, end in edges]

    def one(x: Tensor, roi: Tensor) -> Tensor:
        image = x[int(roi[0])]
        left, top, right, bottom = (math.floor(float(entry) * scale + 0.5) for entry in roi[1:])
        rows = bounds(top, max(bottom - top + 1, 1), height, x.shape[2])
        columns = bounds(left, max(right - left + 1, 1), width, x.shape[3])
        cells = [
            image[:, t:b, a:z].amax((1, 2)) if b > t and z > a else image.new_zeros(len(image))
            for t, b in rows
            for a, z in columns
        ]
        return torch.stack(cells, 1).reshape(-1, height, width)

    return lambda x, rois: torch.stack([one(x, roi) for roi in rois])


def _overlaps(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of one (top, left, bottom, right) with others; 0 where an area is not positive."""
    edges = torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2])
    shared = edges.clamp(min=0).prod(1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - shared
    return torch.where((shared > 0) & (union > 0), shared / union, torch.zeros_like(union))


def _non_max_suppression(node: Node) -> Operation:
    centred = node.attributes.get("center_point_box", 0)

    def corners(boxes: Tensor) -> Tensor:
        if centred:
            x, y, wide, high = boxes.unbind(-1)
            return torch.stack([y - high / 2, x - wide / 2, y + high / 2, x + wide / 2], -1)
        a, b = boxes.chunk(2, -1)
        return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], -1)

    def apply(
        boxes: Tensor,
        scores: Tensor,
        most: Sizes | None = None,
        overlap: Sizes | None = None,
        least: Sizes | None = None,
    ) -> Tensor:
        count = most.ints[0] if most is not None and most.entries else 0
        allowed = overlap.floats[0] if overlap is not None and overlap.entries else 0.0
        chosen: list[tuple[int, int, int]] = []
        for image, (edges, classes) in enumerate(zip(corners(boxes.detach()), scores.detach(), strict=True)):
            for kind, values in enumerate(classes):
                order = torch.sort(values, descending=True, stable=True).indices
                if least is not None and least.entries:
                    order = order[values[order] > least.floats[0]]
                kept = 0
                while len(order) and kept < count:
                    first, order = order[0], order[1:]
                    chosen.append((image, kind, int(first)))
                    kept += 1
                    order = order[_overlaps(edges[first], edges[order]) <= allowed]
        return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)

    return apply


RULES: dict[str, Rule] = {
    "MaxRoiPool": Rule(_max_roi_pool),
    "NonMaxSuppression": Rule(_non_max_suppression, sizes=frozenset({2, 3, 4}), since=10, gradient="none"),
    "RoiAlign": Rule(_roi_align, since=10, remark="no gradient to the regions' batch indices"),
}
