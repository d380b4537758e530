"""Writes the models of this folder that come from Keras through tf2onnx. Needs tensorflow and tf2onnx, which the
project does not depend on: run it in an environment of its own, with the folder to write to as its argument."""

# mypy: ignore-errors

import sys
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
import tf2onnx
from tensorflow.keras import layers

SIDE, CLASSES = 16, 4
Tensor = tf.Tensor


def conv_bn(x: Tensor, width: int, kernel: int = 3, strides: int = 1, act: str | None = "relu") -> Tensor:
    x = layers.Conv2D(width, kernel, strides, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(act)(x) if act else x


def head(x: Tensor) -> Tensor:
    return layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x))


def plain(x: Tensor) -> Tensor:
    x = conv_bn(x, 8, strides=2)
    x = layers.MaxPooling2D(3, 2, padding="same")(conv_bn(x, 12))
    x = layers.Flatten()(layers.Conv2D(8, 3, padding="valid", activation="relu")(x))
    x = layers.Dropout(0.5)(layers.Dense(16, activation="relu")(x))
    return layers.Dense(CLASSES, activation="softmax")(x)


def residual(x: Tensor) -> Tensor:
    x = conv_bn(x, 8)
    y = conv_bn(conv_bn(x, 8), 8, act=None)
    x = layers.Activation("relu")(layers.Add()([x, y]))
    y = conv_bn(conv_bn(layers.ZeroPadding2D(1)(x), 12, strides=2), 12, act=None)
    x = layers.Activation("relu")(layers.Add()([conv_bn(layers.ZeroPadding2D(1)(x), 12, 1, 2, act=None), y]))
    return head(x)


def mobile(x: Tensor) -> Tensor:
    """Depthwise with and without multiplier, separable, squeeze-and-excite, hard swish."""
    x = conv_bn(x, 8, strides=2)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(12, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(12, 1, activation="hard_sigmoid")(layers.Conv2D(4, 1, activation="relu")(gate))
    x = layers.Multiply()([x, gate])
    y = layers.DepthwiseConv2D(3, strides=2, padding="same")(layers.ZeroPadding2D(((0, 1), (0, 1)))(x))
    return head(layers.LeakyReLU()(layers.Conv2D(12, 1)(y)))


def branches(x: Tensor) -> Tensor:
    """Inception, dense concatenation, pooling beside convolutions."""
    x = conv_bn(x, 8, strides=2)
    pooled = layers.AveragePooling2D(3, 1, padding="same")(x)
    x = layers.Concatenate()([conv_bn(x, 8, 1), conv_bn(conv_bn(x, 4, 1), 8), conv_bn(pooled, 4)])
    for _ in range(2):
        y = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, layers.Conv2D(8, 3, padding="same")(y)])
    return head(layers.PReLU(shared_axes=[1, 2])(x))


def unet(x: Tensor) -> Tensor:
    skip = conv_bn(x, 8)
    x = conv_bn(layers.MaxPooling2D()(skip), 12)
    x = layers.UpSampling2D()(conv_bn(x, 12))
    x = conv_bn(layers.Concatenate()([x, skip]), 8)
    y = layers.Conv2DTranspose(8, 3, 2, padding="same", activation="elu")(layers.MaxPooling2D()(x))
    y = layers.UpSampling2D(interpolation="bilinear")(layers.Cropping2D(2)(layers.Add()([x, y])))
    return layers.Conv2D(2, 1, activation="sigmoid")(y)


def shuffle(x: Tensor) -> Tensor:
    """Split, channel shuffle by reshape and transpose, depth to space, channels last all along."""
    x = conv_bn(x, 16, strides=2)
    left, right = layers.Lambda(lambda t: tf.split(t, 2, -1))(x)
    x = layers.Concatenate()([left, conv_bn(right, 8)])
    x = layers.Reshape((SIDE // 2, SIDE // 2, 2, 8))(x)
    x = layers.Reshape((SIDE // 2, SIDE // 2, 16))(layers.Permute((1, 2, 4, 3))(x))
    x = layers.Lambda(lambda t: tf.nn.depth_to_space(t, 2))(conv_bn(x, 16))
    x = layers.LayerNormalization()(layers.Conv2D(12, 3, padding="same")(x))
    return head(layers.Lambda(lambda t: tf.nn.gelu(t, approximate=True))(layers.Dense(12)(x)))


# Half-pixel resizing needs operator set 11.
NETWORKS: dict[Callable[[Tensor], Tensor], tuple[int, ...]] = {
    plain: (9, 13, 17),
    residual: (9, 17),
    mobile: (9, 17),
    branches: (13,),
    unet: (11, 17),
    shuffle: (13,),
}


def main(folder: Path) -> None:
    for network, opsets in NETWORKS.items():
        for opset in opsets:
            tf.keras.utils.set_random_seed(0)
            image = tf.keras.Input((SIDE, SIDE, 3))
            model = tf.keras.Model(image, network(image))
            for variable in model.variables:  # statistics and biases as after training, none of them all alike
                if variable.name in ("gamma", "moving_variance"):
                    variable.assign(tf.random.uniform(variable.shape, 0.5, 1.5))
                elif variable.value.shape.rank == 1:
                    variable.assign(tf.random.normal(variable.shape, stddev=0.2))
            spec = [tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, name="image")]
            function = tf.function(lambda x, model=model: model(x, training=False), input_signature=spec)
            target = folder / f"tf_{network.__name__}_{opset}.onnx"
            tf2onnx.convert.from_function(function, spec, opset=opset, output_path=target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
