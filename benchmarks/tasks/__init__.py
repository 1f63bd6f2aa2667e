"""Everyday tasks with a binary network, by this package and by others: what each takes of a user, and whether it works.

    python -m benchmarks.tasks resteutils    # in an environment that has it: results/bench/tasks/resteutils.json
    python -m benchmarks.tasks larq          # in one of TensorFlow's
    python -m benchmarks.tasks --table       # docs/other-libraries.md from all of those files

Each library has a module here with a function for each task that can be done with it, if need be with code of the
user's own. The function's body, without its checks, is what the user writes.
"""

TASKS = {  # by the name of the function
    "layer": "a 3x3 convolution, binary on both sides, trained for a step",
    "convert": "ResNet-18 of another library made binary but for its first and last layer, its weights kept",
    "depthwise": "a depthwise and a one-dimensional convolution",
    "estimator": "a gradient of one's own for sign",
    "anneal": "a gradient that changes with every step, at its end in the last one",
    "resume": "saved and loaded strictly, the gradient's place with it",
    "checkpoint": "a float checkpoint into the binary network and back, strictly",
    "autocast": "a step in bfloat16",
    "compiled": "a compiled step with the gradients of the uncompiled one",
    "lightning": "annealed by Lightning's or Keras' own training loop",
    "program": "a `.pt2` or SavedModel with any batch size, loaded, the same logits",
    "onnx": "ONNX with any batch size, the same logits in onnxruntime",
    "packed": "a file with one bit for each binary weight",
    "bits": "that file run on bits on this CPU, the same classes",
    "hub": "a folder for the Hugging Face Hub, written and read",
    "types": "type hints that checkers read (PEP 561)",
}
LIBRARIES = ("resteutils", "brevitas", "bitorch", "larq")
