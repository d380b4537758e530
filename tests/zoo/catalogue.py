"""The architectures, one row each: where it comes from, what it takes, and what is left of it at half the channels.

`FAIR` is what peers reach on plain convolutional networks when every layer keeps half of its channels: a quarter of the
multiply-adds of every layer that loses both inputs and outputs, half of the first and last layers'. Every other range
stands beside the reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from torch import nn

from benchmarks.networks import NETWORKS
from tests.graph import zoo
from tests.zoo.networks import audio, dense, detection, fusion, mixing, mobile, pixels, residual, segmentation, video
from tests.zoo.transformers_configs import from_config
from tests.zoo.variants import ALL, TWO, Shapes, Variant

Kind = Literal["convolutional", "transformer", "other"]
Range = tuple[float, float]

FAIR: Range = (0.25, 0.36)
PIXELS: Shapes = ((3, 64, 64),)
SMALL: Shapes = ((3, 32, 32),)
FILM: Shapes = ((3, 8, 48, 48),)


@dataclass(frozen=True)
class Architecture:
    """`shapes` are the inputs' without the batch. `flops` is the share of multiply-adds left at keep 0.5.

    `unexportable` holds, per variant, the words in which the exporter itself refuses it (torch 2.13).
    """

    make: Callable[[], nn.Module]
    shapes: Shapes = PIXELS
    kind: Kind = "convolutional"
    flops: Range = FAIR
    because: str = ""
    variants: tuple[Variant, ...] = TWO
    unexportable: Mapping[str, str] = field(default_factory=dict)


def _transformers(
    name: str, kind: Kind, shapes: Shapes = PIXELS, flops: Range = FAIR, because: str = ""
) -> Architecture:
    return Architecture(partial(from_config, name), shapes, kind, flops, because)


ARCHITECTURES: Mapping[str, Architecture] = {
    # Residual networks.
    "resnet18": Architecture(partial(NETWORKS["resnet18"], classes=10), variants=ALL),
    "resnet50": Architecture(partial(NETWORKS["resnet50"], classes=10)),
    "resnet_parameter_free": Architecture(zoo.resnet_parameter_free, SMALL),
    "resnet50_d": Architecture(residual.resnet50_d),
    "preact_resnet18": Architecture(residual.preact_resnet18),
    "resnext50": Architecture(residual.resnext50, variants=ALL),
    "se_resnet50": Architecture(residual.se_resnet50),
    "eca_resnet18": Architecture(
        residual.eca_resnet18,
        flops=(0.25, 0.52),
        because="ECA convolves over neighbouring channels, so a stage's residual stream goes whole or stays whole",
    ),
    "cbam_resnet18": Architecture(residual.cbam_resnet18),
    "regnet_y": Architecture(residual.regnet_y),
    "res2net": Architecture(residual.res2net),
    "dpn": Architecture(residual.dpn),
    "sknet": Architecture(residual.sknet),
    "resnest": Architecture(residual.resnest),
    "nfnet": Architecture(mixing.nfnet),
    # Networks of concatenations.
    "vgg": Architecture(zoo.vgg, SMALL),
    "densenet121": Architecture(dense.densenet121, variants=ALL),
    "vovnet": Architecture(dense.vovnet),
    "googlenet": Architecture(dense.googlenet, variants=ALL),
    "inception_v3": Architecture(dense.inception_v3),
    "inception_resnet": Architecture(dense.inception_resnet),
    "cspdarknet53": Architecture(dense.cspdarknet53),
    "dla": Architecture(fusion.dla),
    # Networks for phones.
    "mobilenet_v1": Architecture(mobile.mobilenet_v1),
    "mobilenet_v2": Architecture(partial(NETWORKS["mobilenet_v2"], classes=10), variants=ALL),
    "mobilenet_v3_small": Architecture(mobile.mobilenet_v3_small, variants=ALL),
    "mobilenet_v4": Architecture(mobile.mobilenet_v4),
    "efficientnet_b0": Architecture(partial(NETWORKS["efficientnet_b0"], classes=10)),
    "mnasnet": Architecture(mobile.mnasnet),
    "squeezenet": Architecture(mobile.squeezenet, variants=ALL),
    "shufflenet_v1": Architecture(mobile.shufflenet_v1),
    "shufflenet_v2": Architecture(mobile.shufflenet_v2, variants=ALL),
    "ghostnet": Architecture(mobile.ghostnet),
    "repvgg": Architecture(mobile.repvgg),
    "mobileone": Architecture(mobile.mobileone),
    # Detection, key points, segmentation.
    "yolo3": Architecture(detection.yolo3),
    "yolo8": Architecture(detection.yolo8, variants=ALL),
    "yolox": Architecture(detection.yolox),
    "ssd": Architecture(detection.ssd),
    "retinanet": Architecture(detection.retinanet),
    "centernet": Architecture(detection.centernet),
    "hrnet": Architecture(fusion.hrnet),
    "hourglass": Architecture(fusion.hourglass),
    "unet": Architecture(segmentation.unet, variants=ALL),
    "unet_plus_plus": Architecture(segmentation.unet_plus_plus),
    "deeplab_v3": Architecture(segmentation.deeplab_v3),
    "pspnet": Architecture(segmentation.pspnet, ((3, 96, 96),)),
    "fpn": Architecture(segmentation.fpn),
    "linknet": Architecture(segmentation.linknet),
    # From image to image.
    "espcn": Architecture(pixels.espcn, ((1, 24, 24),)),
    "edsr": Architecture(pixels.edsr, ((3, 24, 24),)),
    "rlfn": Architecture(pixels.rlfn, ((3, 48, 48),)),
    "srresnet": Architecture(pixels.srresnet, ((3, 24, 24),)),
    "style_transfer": Architecture(pixels.style_transfer),
    "dcgan": Architecture(pixels.dcgan, ((64,),)),
    "vae": Architecture(pixels.vae, SMALL),
    # Video and sound.
    "r3d18": Architecture(video.r3d18, FILM),
    "r2plus1d18": Architecture(video.r2plus1d18, FILM),
    "x3d": Architecture(video.x3d, FILM),
    "m5": Architecture(
        audio.m5,
        ((1, 4096),),
        flops=(0.25, 0.42),
        because="the first layer reads one channel, so it can only halve, and is 62 % of the multiply-adds",
    ),
    "tcn": Architecture(audio.tcn, ((8, 64),)),
    "wavenet": Architecture(audio.wavenet, ((1, 128),)),
    "conv_tasnet": Architecture(audio.conv_tasnet, ((1, 512),)),
    "crnn": Architecture(audio.crnn, ((1, 32, 64),), "other"),
    "bc_resnet": Architecture(
        audio.bc_resnet,
        ((1, 40, 64),),
        flops=(0.25, 0.48),
        because="depthwise layers and the first one, on one channel, can only halve, and are 90 % of the multiply-adds",
    ),
    # Between convolution and attention.
    "convmixer": Architecture(mixing.convmixer),
    "van": Architecture(mixing.van),
    "mlp_mixer": Architecture(mixing.mlp_mixer, kind="other"),
    "resmlp": Architecture(mixing.resmlp, kind="other"),
    "gmlp": Architecture(mixing.gmlp, kind="other"),
    "coatnet": Architecture(mixing.coatnet, kind="transformer"),
    "cct": Architecture(mixing.cct, SMALL, "transformer"),
    "xcit": Architecture(mixing.xcit, kind="transformer"),
    # Configurations of the transformers package.
    "hf_resnet": _transformers("hf_resnet", "convolutional"),
    "hf_regnet": _transformers("hf_regnet", "convolutional"),
    "hf_bit": _transformers("hf_bit", "convolutional"),
    "hf_mobilenet_v1": _transformers("hf_mobilenet_v1", "convolutional"),
    "hf_mobilenet_v2": _transformers("hf_mobilenet_v2", "convolutional"),
    "hf_mobilenet_v2_deeplab": _transformers("hf_mobilenet_v2_deeplab", "convolutional"),
    "hf_efficientnet": _transformers("hf_efficientnet", "convolutional"),
    "hf_hgnet_v2": _transformers("hf_hgnet_v2", "convolutional"),
    "hf_textnet": _transformers("hf_textnet", "convolutional"),
    "hf_pp_lcnet": _transformers("hf_pp_lcnet", "convolutional"),
    "hf_convnext": replace(_transformers("hf_convnext", "convolutional"), variants=ALL),
    "hf_convnextv2": _transformers("hf_convnextv2", "convolutional"),
    "hf_focalnet": _transformers("hf_focalnet", "convolutional"),
    "hf_poolformer": _transformers("hf_poolformer", "other"),
    "hf_upernet": replace(
        _transformers("hf_upernet", "convolutional"),
        unexportable={"legacy-kept-fixed": "adaptive_avg_pool2d, output size that are not factor of input size"},
    ),
    "hf_swiftformer": _transformers("hf_swiftformer", "transformer"),
    "hf_levit": _transformers("hf_levit", "transformer"),
    "hf_mobilevit": _transformers("hf_mobilevit", "transformer"),
    "hf_mobilevitv2": replace(
        _transformers("hf_mobilevitv2", "transformer"), unexportable={"legacy-kept-fixed": "translating col2im"}
    ),
    "hf_cvt": _transformers("hf_cvt", "transformer"),
    "hf_pvt": _transformers("hf_pvt", "transformer"),
    "hf_pvt_v2": _transformers("hf_pvt_v2", "transformer"),
    "hf_segformer": replace(_transformers("hf_segformer", "transformer"), variants=ALL),
    "hf_swin": replace(
        _transformers("hf_swin", "transformer"),
        unexportable={"dynamo-folded-free": "Cannot view a tensor with shape"},
    ),
    "hf_swinv2": _transformers("hf_swinv2", "transformer"),
    "hf_swin2sr": _transformers("hf_swin2sr", "transformer", ((3, 16, 16),)),
    "hf_hiera": _transformers("hf_hiera", "transformer"),
    "hf_vit": _transformers("hf_vit", "transformer"),
    "hf_deit": _transformers("hf_deit", "transformer"),
    "hf_vit_msn": _transformers("hf_vit_msn", "transformer"),
    "hf_beit": replace(
        _transformers("hf_beit", "transformer"),
        unexportable={"dynamo-folded-free": "Cannot view a tensor with shape"},
    ),
    "hf_data2vec": replace(
        _transformers("hf_data2vec", "transformer"),
        unexportable={"dynamo-folded-free": "Cannot view a tensor with shape"},
    ),
    "hf_dinov2": _transformers("hf_dinov2", "transformer"),
    "hf_dinov3_vit": _transformers(
        "hf_dinov3_vit",
        "transformer",
        flops=(0.25, 0.55),
        because="its output is the residual stream itself, which therefore stays",
    ),
    "hf_yolos": _transformers("hf_yolos", "transformer"),
    "hf_dpt": _transformers("hf_dpt", "transformer"),
    "hf_depth_anything": _transformers("hf_depth_anything", "transformer"),
    "hf_timesformer": _transformers("hf_timesformer", "transformer", ((4, 3, 64, 64),)),
    "hf_ast": _transformers("hf_ast", "transformer", ((64, 32),)),
    "hf_detr": _transformers(
        "hf_detr",
        "transformer",
        flops=(0.25, 0.42),
        because="the first layer reads three channels, so it can only halve, and is half of the multiply-adds; with a "
        "free batch the object queries are made from its size, and what they are added to stays",
    ),
}
