"""Architectures of the `transformers` package, from configurations: thin, shallow, random, nothing downloaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Recipe:
    """`model` and `config` are names in `transformers`; `outputs` are read off what the model returns.

    `backbone` is another config, by name and arguments, for models that are built around one.
    """

    model: str
    config: str
    options: Mapping[str, Any]
    outputs: tuple[str, ...] = ("logits",)
    backbone: tuple[str, Mapping[str, Any]] | None = None


# Four stages, thin, as most hierarchical networks take them.
STAGES: Sizes = (32, 64, 96, 128)
VIT: Mapping[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128, "image_size": 64,
    "patch_size": 8,
}  # fmt: skip
# No "intermediate_size" here: the width of the MLP is a ratio.
DINO: Mapping[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "mlp_ratio": 2, "image_size": 64,
    "patch_size": 8,
}  # fmt: skip
SWIN: Mapping[str, Any] = {
    "image_size": 64,
    "patch_size": 4,
    "embed_dim": 32,
    "depths": (2, 2, 2),
    "num_heads": (2, 4, 8),
    "window_size": 4,
}
PVT: Mapping[str, Any] = {"hidden_sizes": (16, 32, 48, 64), "num_attention_heads": (1, 2, 3, 4), "depths": (1, 1, 1, 1)}
IMAGES = "ForImageClassification"

RECIPES: Mapping[str, Recipe] = {
    "hf_resnet": Recipe(
        "ResNet" + IMAGES, "ResNetConfig",
        {"embedding_size": 32, "hidden_sizes": (64, 128, 192, 256), "depths": (2, 2, 2, 2)},
    ),
    "hf_regnet": Recipe(
        "RegNet" + IMAGES, "RegNetConfig",
        {"embedding_size": 16, "hidden_sizes": STAGES, "depths": (1, 2, 3, 1), "groups_width": 16},
    ),
    "hf_mobilenet_v1": Recipe("MobileNetV1" + IMAGES, "MobileNetV1Config", {"depth_multiplier": 0.5, "image_size": 64}),
    "hf_mobilenet_v2": Recipe("MobileNetV2" + IMAGES, "MobileNetV2Config", {"depth_multiplier": 0.5, "image_size": 64}),
    "hf_mobilenet_v2_deeplab": Recipe(
        "MobileNetV2ForSemanticSegmentation", "MobileNetV2Config",
        {"depth_multiplier": 0.35, "image_size": 64, "output_stride": 8},
    ),
    "hf_efficientnet": Recipe(
        "EfficientNet" + IMAGES, "EfficientNetConfig",
        {"width_coefficient": 0.5, "depth_coefficient": 1.0, "image_size": 64, "hidden_dim": 640},
    ),
    "hf_bit": Recipe(
        "Bit" + IMAGES, "BitConfig",
        {"embedding_size": 32, "hidden_sizes": (64, 128, 256), "depths": (1, 2, 2), "num_groups": 8},
    ),
    "hf_hgnet_v2": Recipe(
        "HGNetV2" + IMAGES, "HGNetV2Config",
        {
            "embedding_size": 24, "hidden_sizes": (48, 64, 96, 128), "stem_channels": (3, 16, 24),
            "stage_in_channels": (24, 48, 64, 96), "stage_mid_channels": (16, 24, 32, 48),
            "stage_out_channels": (48, 64, 96, 128),
            "stage_num_blocks": (1, 1, 2, 1), "stage_numb_of_layers": (3, 3, 3, 3), "depths": (1, 1, 2, 1),
        },
    ),
    "hf_textnet": Recipe(
        "TextNet" + IMAGES, "TextNetConfig",
        {
            "image_size": (64, 64), "hidden_sizes": (64, 32, 32, 48, 64),
            "conv_layer_kernel_sizes": [[[3, 3]], [[3, 3], [1, 3]], [[3, 3], [3, 1]], [[3, 3]]],
            "conv_layer_strides": [[2], [2, 1], [2, 1], [2]],
        },
    ),
    "hf_pp_lcnet": Recipe(
        "PPLCNet" + IMAGES, "PPLCNetConfig", {"scale": 0.5, "class_expand": 256}, ("last_hidden_state",)
    ),
    "hf_convnext": Recipe(
        "ConvNext" + IMAGES, "ConvNextConfig", {"hidden_sizes": STAGES, "depths": (1, 1, 3, 1), "image_size": 64}
    ),
    "hf_convnextv2": Recipe(
        "ConvNextV2" + IMAGES, "ConvNextV2Config", {"hidden_sizes": STAGES, "depths": (1, 1, 3, 1), "image_size": 64}
    ),
    "hf_focalnet": Recipe(
        "FocalNet" + IMAGES, "FocalNetConfig",
        {
            "image_size": 64, "embed_dim": 32, "hidden_sizes": (64, 128, 128), "depths": (1, 2, 1),
            "focal_levels": (2, 2, 2), "focal_windows": (3, 3, 3),
        },
    ),
    "hf_poolformer": Recipe(
        "PoolFormer" + IMAGES, "PoolFormerConfig",
        {"hidden_sizes": STAGES, "depths": (1, 1, 3, 1), "num_encoder_blocks": 4},
    ),
    "hf_swiftformer": Recipe(
        "SwiftFormer" + IMAGES, "SwiftFormerConfig",
        {"image_size": 64, "depths": (1, 2, 2, 2), "embed_dims": (24, 32, 48, 64)},
    ),
    "hf_levit": Recipe(
        "Levit" + IMAGES, "LevitConfig",
        {
            "image_size": 64, "hidden_sizes": (64, 96, 128), "num_attention_heads": (2, 3, 4), "depths": (2, 2, 2),
            "key_dim": (16, 16, 16), "down_ops": [["Subsample", 16, 4, 4, 2, 2], ["Subsample", 16, 6, 4, 2, 2]],
        },
    ),
    "hf_mobilevit": Recipe(
        "MobileViT" + IMAGES, "MobileViTConfig",
        {"image_size": 64, "hidden_sizes": (32, 48, 64), "neck_hidden_sizes": (16, 24, 32, 48, 56, 64, 128)},
    ),
    "hf_mobilevitv2": Recipe(
        "MobileViTV2" + IMAGES, "MobileViTV2Config",
        {
            "image_size": 64, "width_multiplier": 0.25, "base_attn_unit_dims": (128, 192, 256),
            "n_attn_blocks": (1, 2, 1),
        },
    ),
    "hf_cvt": Recipe(
        "Cvt" + IMAGES, "CvtConfig", {"embed_dim": (32, 48, 64), "num_heads": (1, 3, 4), "depth": (1, 2, 3)}
    ),
    "hf_pvt": Recipe("Pvt" + IMAGES, "PvtConfig", {**PVT, "image_size": 64, "sequence_reduction_ratios": (4, 2, 2, 1)}),
    "hf_pvt_v2": Recipe("PvtV2" + IMAGES, "PvtV2Config", {**PVT, "image_size": 64, "sr_ratios": (4, 2, 2, 1)}),
    "hf_segformer": Recipe(
        "SegformerForSemanticSegmentation", "SegformerConfig",
        {**PVT, "sr_ratios": (4, 2, 2, 1), "decoder_hidden_size": 48},
    ),
    "hf_swin": Recipe("Swin" + IMAGES, "SwinConfig", SWIN),
    "hf_swinv2": Recipe("Swinv2" + IMAGES, "Swinv2Config", SWIN),
    "hf_swin2sr": Recipe(
        "Swin2SRForImageSuperResolution", "Swin2SRConfig",
        {"image_size": 16, "embed_dim": 32, "depths": (2, 2), "num_heads": (4, 4), "window_size": 4},
        ("reconstruction",),
    ),
    "hf_hiera": Recipe(
        "Hiera" + IMAGES, "HieraConfig",
        {
            "image_size": (64, 64), "embed_dim": 32, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8),
            "masked_unit_size": (8, 8), "patch_stride": (4, 4),
        },
    ),
    "hf_vit": Recipe("ViT" + IMAGES, "ViTConfig", VIT),
    "hf_deit": Recipe("DeiTForImageClassificationWithTeacher", "DeiTConfig", VIT),
    "hf_vit_msn": Recipe("ViTMSN" + IMAGES, "ViTMSNConfig", VIT),
    "hf_beit": Recipe("Beit" + IMAGES, "BeitConfig", {**VIT, "use_relative_position_bias": True}),
    "hf_data2vec": Recipe(
        "Data2VecVision" + IMAGES, "Data2VecVisionConfig", {**VIT, "use_shared_relative_position_bias": True}
    ),
    "hf_dinov2": Recipe("Dinov2" + IMAGES, "Dinov2Config", {**DINO, "use_swiglu_ffn": True}),
    "hf_dinov3_vit": Recipe(
        "DINOv3ViTModel", "DINOv3ViTConfig", {**VIT, "use_gated_mlp": True, "num_register_tokens": 2},
        ("pooler_output",),
    ),
    "hf_yolos": Recipe(
        "YolosForObjectDetection", "YolosConfig", {**VIT, "image_size": (64, 64), "num_detection_tokens": 10},
        ("logits", "pred_boxes"),
    ),
    "hf_dpt": Recipe(
        "DPTForDepthEstimation", "DPTConfig",
        {
            **VIT, "num_hidden_layers": 4, "neck_hidden_sizes": (16, 24, 32, 48), "fusion_hidden_size": 32,
            "backbone_out_indices": [0, 1, 2, 3],
        },
        ("predicted_depth",),
    ),
    "hf_depth_anything": Recipe(
        "DepthAnythingForDepthEstimation", "DepthAnythingConfig",
        {
            "patch_size": 8, "reassemble_hidden_size": 64, "neck_hidden_sizes": (16, 24, 32, 48),
            "fusion_hidden_size": 32, "head_hidden_size": 16,
        },
        ("predicted_depth",),
        (
            "Dinov2Config",
            {
                **DINO, "num_hidden_layers": 4, "out_indices": [1, 2, 3, 4], "apply_layernorm": True,
                "reshape_hidden_states": False,
            },
        ),
    ),
    "hf_upernet": Recipe(
        "UperNetForSemanticSegmentation", "UperNetConfig", {"hidden_size": 48, "use_auxiliary_head": False},
        backbone=(
            "ConvNextConfig",
            {
                "hidden_sizes": list(STAGES), "depths": [1, 1, 2, 1], "image_size": 64,
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
            },
        ),
    ),
    "hf_timesformer": Recipe(
        "TimesformerForVideoClassification", "TimesformerConfig", {**VIT, "num_frames": 4, "num_hidden_layers": 2}
    ),
    "hf_ast": Recipe(
        "ASTForAudioClassification", "ASTConfig",
        {
            "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
            "max_length": 64, "num_mel_bins": 32,
        },
    ),
    "hf_detr": Recipe(
        "DetrForObjectDetection", "DetrConfig",
        {
            "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
            "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "num_queries": 12,
        },
        ("logits", "pred_boxes"),
        (
            "ResNetConfig",
            {
                "embedding_size": 32, "hidden_sizes": (64, 96, 128, 160), "depths": (1, 1, 1, 1),
                "out_features": ["stage4"],
            },
        ),
    ),
}  # fmt: skip


class Plain(nn.Module):
    """A transformers model that takes one tensor and gives plain tensors."""

    def __init__(self, model: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = self.model(pixels)
        tensors = tuple(found[name] for name in self.outputs)
        return tensors if len(tensors) > 1 else tensors[0]


def from_config(name: str) -> nn.Module:
    """The architecture with random weights, in eval mode."""
    import transformers  # an extra: whoever asks for one of these has it, or skips

    recipe = RECIPES[name]
    options = dict(recipe.options)
    if recipe.backbone:
        config, inner = recipe.backbone
        options["backbone_config"] = getattr(transformers, config)(**inner)
    torch.manual_seed(0)
    model = getattr(transformers, recipe.model)(getattr(transformers, recipe.config)(**options))
    return Plain(model.eval(), recipe.outputs)
