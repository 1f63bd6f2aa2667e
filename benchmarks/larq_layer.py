"""One binary convolution on larq-compute-engine, for onebit.py: runs in its own process, in an environment of its own.

    python larq_layer.py CHANNELS SIZE THREADS

Says "ready", then answers each line of its input with the seconds of one call.
"""

import os
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def main() -> None:
    import larq
    import larq_compute_engine
    import numpy as np
    import tensorflow as tf
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    channels, size, threads = map(int, sys.argv[1:])
    layer = larq.layers.QuantConv2D(
        channels, 3, padding="same", pad_values=1.0, input_quantizer="ste_sign", kernel_quantizer="ste_sign",
        use_bias=False, input_shape=(size, size, channels),
    )  # fmt: skip
    model = tf.keras.Sequential([layer])
    network = Interpreter(larq_compute_engine.convert_keras_model(model), num_threads=threads)
    image = np.random.default_rng(0).standard_normal((1, size, size, channels)).astype(np.float32)
    network.predict(image)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        network.predict(image)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
