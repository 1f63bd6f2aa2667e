"""The tasks with larq and larq-compute-engine (larq.dev), on TensorFlow with Keras 2."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import larq as lq  # noqa: E402
import larq_compute_engine as lce  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from benchmarks.tasks.needing import needs  # noqa: E402

PACKAGES = ("larq", "larq-compute-engine", "tensorflow-cpu")
BINARY = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
LABELS = np.arange(8) % 10


class Triangle(lq.quantizers.Quantizer):
    precision = 1

    def __init__(self, **options):
        super().__init__(**options)
        self.width = tf.Variable(1.0, trainable=False)

    def call(self, z):
        @tf.custom_gradient
        def sign(z):
            def slope(grad):
                return grad * 2 / self.width * tf.maximum(1 - tf.abs(z) / self.width, 0)

            return tf.where(z < 0, -1.0, 1.0), slope

        return sign(z)


def images() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((8, 32, 32, 3)).astype(np.float32)


def small(options: dict = BINARY) -> tf.keras.Model:
    tf.keras.utils.set_random_seed(0)
    layers, padded = tf.keras.layers, {"padding": "same", "pad_values": 1.0, "use_bias": False}
    made = [{name: Triangle() if value is Triangle else value for name, value in options.items()} for _ in range(2)]
    return tf.keras.Sequential(
        [
            layers.Conv2D(32, 3, padding="same", use_bias=False, input_shape=(32, 32, 3)), layers.BatchNormalization(),
            lq.layers.QuantConv2D(128, 3, **padded, **made[0]), layers.BatchNormalization(),
            lq.layers.QuantConv2D(128, 3, **padded, **made[1]), layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(), layers.Dense(10),
        ]
    )  # fmt: skip


def moved(model: tf.keras.Model) -> tf.keras.Model:
    """With weights that its seed does not give."""
    model.set_weights([weight + 0.1 for weight in model.get_weights()])
    return model


def fitted(model: tf.keras.Model, **options) -> float:
    """Three steps of Keras' own loop; the loss."""
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.SGD(0.1), loss)
    images3, labels3 = np.repeat(images(), 3, 0), np.repeat(LABELS, 3, 0)
    return model.fit(images3, labels3, batch_size=8, verbose=0, **options).history["loss"][-1]


def widths(model: tf.keras.Model) -> list[tf.Variable]:
    quantizers = [q for each in model.layers for q in (getattr(each, "kernel_quantizer", 0),
                                                       getattr(each, "input_quantizer", 0))]  # fmt: skip
    return [q.width for q in quantizers if isinstance(q, Triangle)]


def layer(folder: Path) -> None:
    conv = lq.layers.QuantConv2D(
        8, 3, padding="same", use_bias=False, input_quantizer="ste_sign", kernel_quantizer="ste_sign",
        kernel_constraint="weight_clip",
    )  # fmt: skip
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(conv(images()) ** 2)
    (grad,) = tape.gradient(loss, conv.trainable_variables)
    assert np.abs(grad).sum() > 0


def binary(network: tf.keras.Model) -> tf.keras.Model:
    def made(layer):
        if isinstance(layer, tf.keras.layers.Conv2D) and layer.name != "conv1_conv":
            return lq.layers.QuantConv2D.from_config(layer.get_config() | BINARY)
        return layer.__class__.from_config(layer.get_config())

    model = tf.keras.models.clone_model(network, clone_function=made)
    model.set_weights(network.get_weights())
    return model


def resnet() -> tf.keras.Model:
    """Keras has no ResNet-18."""
    tf.keras.utils.set_random_seed(0)
    return tf.keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=10, classifier_activation=None)


@needs("binary")
def convert(folder: Path) -> None:
    network = resnet()
    model = binary(network)
    assert sum(isinstance(layer, lq.layers.QuantConv2D) for layer in model.layers) == 52
    assert all(map(np.array_equal, model.get_weights(), network.get_weights()))
    assert np.isfinite(fitted(model))


def depthwise(folder: Path) -> None:
    conv = lq.layers.QuantDepthwiseConv2D(
        3, padding="same", use_bias=False, input_quantizer="ste_sign", depthwise_quantizer="ste_sign"
    )
    line = lq.layers.QuantConv1D(16, 3, padding="same", use_bias=False, **BINARY)
    assert conv(images()).shape == (8, 32, 32, 3)
    assert line(images()[:, :, 0]).shape == (8, 32, 16)


@needs("Triangle")
def estimator(folder: Path) -> None:
    conv = lq.layers.QuantConv2D(8, 3, use_bias=False, input_quantizer=Triangle(), kernel_quantizer=Triangle())
    head = [tf.keras.layers.GlobalAveragePooling2D(), tf.keras.layers.Dense(10)]
    assert np.isfinite(fitted(tf.keras.Sequential([conv, *head])))


OWN = {"input_quantizer": Triangle, "kernel_quantizer": Triangle}


@needs("Triangle", "widths")
def anneal(folder: Path) -> None:
    model = small(OWN)
    optimizer = tf.keras.optimizers.SGD(0.1)
    for step in range(3):
        for width in widths(model):
            width.assign(1 - 0.9 * step / 2)
        with tf.GradientTape() as tape:
            logits = model(images(), training=True)
            loss = tf.keras.losses.sparse_categorical_crossentropy(LABELS, logits, from_logits=True)
        pairs = zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        optimizer.apply_gradients(pairs)
    assert len(widths(model)) == 4 and all(abs(float(width) - 0.1) < 1e-6 for width in widths(model))


@needs("widths")
def resume(folder: Path) -> None:
    model = moved(small(OWN))
    for width in widths(model):
        width.assign(0.64)
    tf.train.Checkpoint(model=model, widths=widths(model)).write(str(folder / "model"))
    other = small(OWN)
    tf.train.Checkpoint(model=other, widths=widths(other)).read(str(folder / "model")).assert_consumed()
    assert all(abs(float(width) - 0.64) < 1e-6 for width in widths(other))
    assert np.allclose(model(images()), other(images()))


def checkpoint(folder: Path) -> None:
    network = moved(resnet())
    model = binary(network)
    network.save_weights(folder / "float.h5")
    model.load_weights(folder / "float.h5")
    model.save_weights(folder / "binary.h5")
    back = resnet()
    back.load_weights(folder / "binary.h5")
    assert all(map(np.array_equal, back.get_weights(), network.get_weights()))


def autocast(folder: Path) -> None:
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        loss = fitted(small())
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert np.isfinite(loss)


def gradients(model: tf.keras.Model) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        logits = model(images(), training=True)
        loss = tf.keras.losses.sparse_categorical_crossentropy(LABELS, logits, from_logits=True)
    return tape.gradient(loss, model.trainable_variables)


def compiled(folder: Path) -> None:
    model = small()
    fast = tf.function(gradients, jit_compile=True)
    assert all(map(lambda a, b: np.allclose(a, b, atol=1e-4), fast(model), gradients(model)))


@needs("widths")
def lightning(folder: Path) -> None:
    class Anneal(tf.keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            for width in widths(self.model):
                width.assign(1 - 0.9 * batch / (self.params["steps"] - 1))

    model = small(OWN)
    fitted(model, callbacks=[Anneal()])
    assert all(abs(float(width) - 0.1) < 1e-6 for width in widths(model))


def program(folder: Path) -> None:
    model = small()
    fitted(model)
    model.export(folder / "model")
    loaded = tf.saved_model.load(folder / "model")
    assert all(np.allclose(loaded.serve(images()[:n]), model(images()[:n]), atol=1e-3) for n in (1, 5, 8))


def packed(folder: Path) -> None:
    model = small()
    fitted(model)
    (folder / "model.tflite").write_bytes(lce.convert_keras_model(model))
    assert (folder / "model.tflite").stat().st_size < 4 * model.count_params() / 10


def bits(folder: Path) -> None:
    model = small()
    fitted(model)
    fast = lce.testing.Interpreter(lce.convert_keras_model(model))
    found = fast.predict(images())
    assert np.array_equal(np.argmax(found, 1), np.argmax(model(images()), 1))


def types(folder: Path) -> None:
    assert (Path(lq.__file__).parent / "py.typed").is_file(), "it has no py.typed"
