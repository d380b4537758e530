"""A made-up report with the shape of a real one. None of its numbers was measured."""

import math
import random
from typing import Any


def sample_report(groups: int = 19, seed: int = 0) -> dict[str, Any]:
    """Sample data: a ResNet-like network with so many groups, the first locked, the third vanished."""
    rng = random.Random(seed)
    entries, stairs, before, after = [], [], [], []
    for index in range(groups):
        width = 16 * 2 ** min(3, 4 * index // groups)
        keep = width if index == 0 else 0 if index == 2 else max(16, 16 * round(width * rng.uniform(0.3, 0.95) / 16))
        scores = [math.exp(rng.gauss(-1, 0.9)) for _ in range(width)]
        ranked = sorted(range(width), key=lambda channel: -scores[channel])
        name = (
            f"/layer{1 + 3 * index // groups}/layer{1 + 3 * index // groups}.{index}/conv{1 + index % 2}/Conv_output_0"
        )
        entries.append(
            {
                "id": name,
                "width": width,
                "kept": keep,
                "step": 1,
                "exact": index != 5,
                "locked": "its channels are the network's output" if index == 0 else None,
                "importance": scores if index else [],
                "kept_channels": sorted(ranked[:keep]),
            }
        )
        if index:
            grid = range(4, width + 1, 4)
            stairs.append(
                {
                    "op": "group",
                    "title": name,
                    "widths": list(grid),
                    "us": [40 + 3.1 * (-(-w // 16) * 16) + (25 if w % 8 else 0) + rng.uniform(-2, 2) for w in grid],
                    "edges": [w for w in grid if w % 16 == 0],
                    "chosen": keep,
                }
            )
        cost = 30 + 3.4 * width + rng.uniform(0, 90)
        before.append({"name": name, "op": "Conv+Relu" if index % 2 else "Conv+Add+Relu", "us": cost})
        if keep:
            after.append({**before[-1], "us": 12 + cost * (keep / width) ** 1.3})
    after.append({"name": "/layer1/Reorder", "op": "ReorderOutput", "us": 6.4})
    return {
        "cutback": "0.1.0",
        "created": "2026-01-31T12:34:56+00:00",
        "command": "cutback compress resnet20.onnx --target local --goal 'latency<=0.5x' --data train.npz -o out",
        "model": {
            "path": "models/resnet20.onnx",
            "sha256": "5f" * 32,
            "inputs": [{"name": "input", "shape": [1, 3, 32, 32], "dtype": "float32"}],
        },
        "target": {
            "name": "local",
            "runtime": "onnxruntime",
            "precision": "fp32",
            "threads": 1,
            "regime": "as-shipped",
        },
        "device": {
            "device_class": {"cpu": "Sample CPU", "cores": 2, "memory_gib": 8, "features": ["avx2", "avx512f"]},
            "stack": {"os": "debian 12", "runtime": "onnxruntime", "version": "1.31.1", "options": {"inter_op": 1}},
            "regime": {"threads": 1, "pinned": True, "governor": None},
            "emulated": False,
        },
        "goal": "latency<=0.5x",
        "met": True,
        "failures": [],
        "latency": {
            "before": {
                "median_ms": 3.412,
                "p90_ms": 3.52,
                "p99_ms": 3.81,
                "low_ms": 3.39,
                "high_ms": 3.44,
                "sessions": 10,
            },
            "after": {
                "median_ms": 1.664,
                "p90_ms": 1.72,
                "p99_ms": None,
                "low_ms": 1.641,
                "high_ms": 1.69,
                "sessions": 10,
                "doubts": ["2 sessions were repeated because the machine was loaded"],
            },
            "ratio": {"value": 2.05, "low": 2.016, "high": 2.084, "confidence": 0.99, "verdict": "faster"},
            "predicted_ms": 1.63,
            "predicted_low_ms": 1.60,
            "predicted_high_ms": 1.67,
            "measured_ms": 1.664,
            "rounds": [
                {
                    "budget_ms": 1.706,
                    "predicted_ms": 1.70,
                    "predicted_low_ms": 1.66,
                    "predicted_high_ms": 1.74,
                    "measured_ms": 1.79,
                    "low_ms": 1.76,
                    "high_ms": 1.82,
                },
                {
                    "budget_ms": 1.62,
                    "predicted_ms": 1.61,
                    "predicted_low_ms": 1.58,
                    "predicted_high_ms": 1.65,
                    "measured_ms": 1.70,
                    "low_ms": 1.68,
                    "high_ms": 1.73,
                },
                {
                    "budget_ms": 1.55,
                    "predicted_ms": 1.63,
                    "predicted_low_ms": 1.60,
                    "predicted_high_ms": 1.67,
                    "measured_ms": 1.664,
                    "low_ms": 1.641,
                    "high_ms": 1.69,
                },
            ],
            "heldout": {"plans": 6, "median_error": 0.018, "p95_error": 0.043},
        },
        "cuts": [
            {
                "goal": f"latency<={goal}x",
                "latency": {
                    "predicted_ms": predicted,
                    "predicted_low_ms": 0.98 * predicted,
                    "predicted_high_ms": 1.02 * predicted,
                    "measured_ms": 1.01 * predicted,
                    "low_ms": predicted,
                    "high_ms": 1.02 * predicted,
                },
                "plans": 2,
                "flops": flops,
                "params": flops // 140,
                "accuracy_cut": cut,
                "accuracy": recovered,
                "epochs": 12,
                "gap": 0.0004,
                "proof": {"relative_error": 3.1e-7, "tolerance": 1e-4},
            }
            for goal, predicted, flops, cut, recovered in (
                (0.7071, 2.39, 27_100_000, 71.3, 91.2),
                (0.5, 1.63, 16_905_216, 66.0, 90.61),
            )
        ],
        "sweep": {
            "uncut_ms": 3.41,
            "points": [
                {
                    "allocator": allocator,
                    "budget_ms": 3.41 * share,
                    "predicted_ms": None if share < 0.2 else 3.36 * share,
                    "low_ms": None if share < 0.2 else 3.3 * share,
                    "high_ms": None if share < 0.2 else 3.45 * share,
                    "measured_ms": None if share < 0.2 else 3.39 * share,
                    "measured_low_ms": None if share < 0.2 else 3.35 * share,
                    "measured_high_ms": None if share < 0.2 else 3.43 * share,
                    "least_ms": 0.61 if share < 0.2 else None,
                    "kept": None if share < 0.2 else share**power,
                    "accuracy": None if share < 0.2 else 91 * share**power,
                    "gap": 0.0004,
                    "status": "optimal",
                    "flops": None if share < 0.2 else int(41e6 * share),
                    "params": None if share < 0.2 else int(270e3 * share),
                }
                for allocator, power in (("exact", 0.4), ("uniform", 0.8))
                for share in (0.9, 0.7, 0.5, 0.3, 0.1)
            ],
            "chosen": {"kept": 0.75, "predicted_ms": 1.63, "measured_ms": 1.65},
        },
        "flops": {"before": 41_215_360, "after": 16_905_216},
        "params": {"before": 272_474, "after": 120_330},
        "memory": {"before": 131_072, "after": 65_536},
        "accuracy": {"metric": "top1", "count": 10000, "before": 91.73, "cut": 38.2, "after": 90.61, "drop": 1.12},
        "proof": {"relative_error": 3.1e-7, "tolerance": 1e-4, "exact_groups": groups - 1, "inexact_groups": 1},
        "batchnorm": {
            "put_back": groups,
            "samples": 1024,
            "relative_error": 4.2e-7,
            "tolerance": 1e-5,
            "folded_relative_error": 3.9e-7,
            "folded_tolerance": 1e-5,
        },
        "groups": entries,
        "kernels": {"before": before, "after": after},
        "stairs": stairs,
        "recovery": {
            "epochs": [
                {
                    "epoch": epoch,
                    "loss": 1.4 * math.exp(-epoch / 6) + 0.21,
                    "accuracy": 90.7 - 45 * math.exp(-epoch / 3.5),
                    "learning_rate": 0.02 * (1 + math.cos(math.pi * epoch / 24)) / 2,
                    "seconds": 31.0,
                }
                for epoch in range(1, 25)
            ],
            "seconds": 760.0,
        },
        "solver": {"name": "HiGHS", "gap": 0.0004, "status": "optimal", "seconds": 0.8, "allocator": "exact"},
        "criterion": {
            "name": "taylor",
            "normalisation": "l2",
            "regularisation": {"cost": "none", "strength": 0.0},
        },
        "precisions": {
            "uncut": [variant("int8", 2.1, 0.42, 91.31, meets=False)],
            "cut": [
                variant("fp32", 2.04, 0.87, 90.86),
                variant("int8", 3.9, 1.12, 90.61),
                {"precision": "bf16", "refused": "no kernels for it here", "unseen": None, "meets": None},
            ],
            "recommended": "int8",
            "because": "1.91x as fast as fp32, +0.25 points lost to it",
        },
        "engines": [
            {
                "path": "engine.onnx",
                "sha256": "a7" * 32,
                "runtime": "onnxruntime",
                "precision": "fp32",
                "bytes": 493_112,
            }
        ],
        "doubts": ["cut: 2 sessions were repeated because the machine was loaded"],
    }


def variant(
    precision: str, speed_up: float, drop: float, accuracy: float, *, meets: bool | None = None
) -> dict[str, Any]:
    """A row of the precisions, as the stage writes it."""
    return {
        "precision": precision,
        "refused": None,
        "unseen": None,
        "meets": meets,
        "latency": {"median_ms": 3.412 / speed_up, "low_ms": 3.3 / speed_up, "high_ms": 3.5 / speed_up},
        "ratio": {"value": speed_up, "low": 0.97 * speed_up, "high": 1.03 * speed_up, "verdict": "faster"},
        "accuracy": accuracy,
        "drop": drop,
        "bytes": 300_000,
        "difference": 1e-3,
    }
