"""Kernels and bytes of a compiled training step, from Inductor's own schedule, beside the float twin's.

    python -m benchmarks.gpu.roofline [MODEL [BATCH [SIZE]]]

For a GPU that is not there: nothing is run, no Triton kernel is compiled. Bytes are those that every kernel reads and
writes; the time that they take at 0.8 of an H200's memory speed is a lower bound of a step.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from benchmarks.gpu import fakecuda
from benchmarks.ratios import Row, steady

__all__ = ["Scheduled", "rows", "scheduled"]

WHY_EMPTY = "needs gcc and Triton"
CASES = (("resnet20", 256), ("resnet18", 96), ("vgg_small", 256))
BYTES_A_SECOND = 3.9e12  # 0.8 of an H200's 4.8 TB/s


@dataclass(frozen=True)
class Scheduled:
    """Of one step, forward and backward: kernels, how many of them are libraries', and bytes moved."""

    kernels: int
    libraries: int
    moved: int

    @property
    def ms(self) -> float:
        """Milliseconds that the bytes take."""
        return 1e3 * self.moved / BYTES_A_SECOND


def scheduled(model: str, bits: str, batch: int, size: int) -> Scheduled:
    """What Inductor plans for a step of ``model`` on a GPU."""
    import resteutils as ru
    from resteutils.recipes import Recipe
    from resteutils.training.switches import numerics

    parts: list[Scheduled] = []
    device = torch.device("cuda")
    classes = 1000 if "imagenet" in model else 10
    torch.compiler.reset()
    with numerics(Recipe(), device):
        network = ru.create(model, bits=bits, image_size=size, num_classes=classes)
        network = network.to(device, memory_format=torch.channels_last).train()
        images = torch.empty(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
        compiled = torch.compile(network, backend=_backend(parts), dynamic=False)
        F.cross_entropy(compiled(images), torch.zeros(batch, dtype=torch.int64, device=device)).backward()
    sums = (sum(getattr(part, name) for part in parts) for name in ("kernels", "libraries", "moved"))
    return Scheduled(*sums)


def _backend(parts: list[Scheduled]):
    """Inductor up to its schedule, which is noted; the graph then runs as it is."""
    from functorch.compile import make_boxed_func
    from torch._inductor import compile_fx
    from torch._inductor.debug import DebugContext
    from torch._inductor.graph import GraphLowering
    from torch._inductor.utils import shape_env_from_inputs
    from torch._inductor.virtualized import V

    def inner(graph_module, inputs, **options):
        mode = compile_fx.fake_tensor_prop(graph_module, inputs)
        compile_fx.record_original_output_strides(graph_module)
        with V.set_fake_mode(mode):
            compile_fx._recursive_post_grad_passes(graph_module, False)
            backward = options.get("is_backward", False)
            graph = GraphLowering(graph_module, shape_env=shape_env_from_inputs(inputs), is_backward=backward)
            with V.set_graph_handler(graph), V.set_debug_handler(DebugContext()):
                graph.run(*inputs)
                graph._update_scheduler()
                nodes = [node for node in graph.scheduler.nodes if _launched(node)]
                libraries = sum("Extern" in type(node).__name__ for node in nodes)
                parts.append(Scheduled(len(nodes), libraries, sum(n.get_read_write_buffers_sizes() for n in nodes)))
        return make_boxed_func(graph_module.forward)

    return lambda graph_module, inputs: compile_fx.compile_fx(graph_module, inputs, inner_compile=inner)


def _launched(node) -> bool:
    """Whether a node of the schedule is a call: neither nothing nor one of the results of a library's call."""
    return "Nop" not in type(node).__name__ and type(node.node).__name__ != "MultiOutput"


def rows(full: bool) -> Iterator[Row]:
    """Kernels and megabytes of each network beside its float twin's, from processes on fakecuda."""
    if not shutil.which("gcc") or importlib.util.find_spec("triton") is None:
        return
    for model, batch in CASES if full else CASES[:1]:
        done = fakecuda.run(["-m", "benchmarks.gpu.roofline", model, str(batch)], capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or len(lines) != 2:
            raise RuntimeError(f"the schedule of {model} was not made: {done.stderr[-500:]}")
        for what, unit, scale in (("kernels", "kernels", 1), ("moved", "MB", 1e-6)):
            values = tuple(scale * line[what] for line in lines)
            case = f"{model} batch {batch} on a GPU, {unit} of a compiled step"
            yield steady("gpu.roofline", case, "ours, compiled", "float twin, compiled", values, unit)


def main(model: str, batch: int, size: int) -> None:
    """Print a line of JSON for the binary network and one for its float twin."""
    for bits in ("1/1", "32/32"):
        found = scheduled(model, bits, batch, size)
        line = {"model": model, "bits": bits, "batch": batch, **asdict(found), "ms": found.ms}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    parser = ArgumentParser(description=main.__doc__)
    parser.add_argument("model", nargs="?", default="resnet20")
    parser.add_argument("batch", nargs="?", type=int, default=256)
    parser.add_argument("size", nargs="?", type=int, default=32, help="pixels a side")
    asked = parser.parse_args()
    if not fakecuda.loaded() and not torch.cuda.is_available():
        sys.exit(fakecuda.run(["-m", "benchmarks.gpu.roofline", *sys.argv[1:]]).returncode)
    main(**vars(asked))
    sys.stdout.flush()
    os._exit(0)  # torch's teardown expects a real driver
