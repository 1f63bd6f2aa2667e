"""What one training step launches, copies and waits for, on made images; runs under fakecuda, one line a case.

PYTHONPATH=. python tests/gpu/steps.py sweep | evaluation | signs | resume | bad FLAW
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import torch

import resteutils as ru
from benchmarks.gpu import fakecuda
from resteutils.data.images import Images
from resteutils.nn import binarize, exact
from resteutils.recipes import Recipe
from resteutils.training import gpu
from resteutils.training import loop as training
from resteutils.training.processes import Processes
from resteutils.training.stopping import Interrupted
from resteutils.training.switches import numerics
from resteutils.training.tracking import NoTracker

MODELS = ("resnet18", "resnet20", "resnet20_bireal", "vgg_small", "resnet18_imagenet", "resnet34_imagenet")
BITS = ("1/1", "1/32", "32/32")


def made_loop(recipe: Recipe, train: int, test: int, group: Processes | None = None) -> training._Loop:
    """A training on so many made images, before its first step."""
    data, folder = images(recipe, train, test), Path(tempfile.mkdtemp())
    device = torch.device("cuda")
    return training._Loop(recipe, folder, device, data, group or Processes(), NoTracker(), lambda line: None, False)


def images(recipe: Recipe, train: int, test: int) -> Images:
    draw = torch.Generator().manual_seed(0)

    def part(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (count, recipe.in_channels, recipe.image_size, recipe.image_size)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)
        return pixels, torch.randint(0, recipe.num_classes, (count,), generator=draw)

    names = tuple(map(str, range(recipe.num_classes)))
    made = Images("made", names, *part(train), *part(test), (0.5,) * 3, (0.25,) * 3, recipe.augment, recipe.padding)
    return made.to(torch.device("cuda"))


def look(loop) -> None:
    """As ``raise_if_bad`` looks at the device; the number means nothing where kernels compute nothing."""
    int(loop.first_bad)


def counted(recipe: Recipe, steps: int = 2, flaw: str = ""):
    """What ``steps`` steps did after one that warms up, away from the steps that look at the device."""
    device = torch.device("cuda")
    with numerics(recipe, device):
        loop = made_loop(recipe, 8 * recipe.batch_size, 16)
        loop.restore()
        sums = training.Sums({}, device)
        loop.model.train()
        batches = loop.data.train_batches(recipe.batch_size, recipe.seed, 0)
        loop.train_step(*next(batches), sums, False)
        loop.state.step = 51
        with fakecuda.watched() as found:
            for _ in range(steps):
                loop.train_step(*next(batches), sums, False)
                if flaw == "item":
                    sums.loss.item()
                if flaw == "copy":
                    sums.loss += torch.tensor([1.0]).to(device).sum()
                if flaw == "device":
                    loop.model(torch.zeros(2, 3, 32, 32))
    return found


def sweep() -> None:
    cases = [(m, b, "reste", "fp32", {"image_size": 64} if "imagenet" in m else {}) for m in MODELS for b in BITS]
    cases += [("resnet20", "1/1", name, "fp32", {}) for name in ru.ESTIMATORS if name != "reste"]
    cases += [
        (m, "1/1", "reste", "fp32", {"deterministic": True}) for m in ("resnet20", "resnet20_bireal", "vgg_small")
    ]
    cases += [("resnet20", b, "reste", p, {}) for p in ("tf32", "bf16") for b in BITS]
    options = ({"standardize": True}, {"scale": "channel"}, {"scale_order": "before"}, {"accumulate": 2})
    cases += [("resnet20", "1/1", "reste", "fp32", o) for o in (*options, {"schedule": "step"})]
    for model, bits, estimator, precision, more in cases:
        estimators = None if bits == "32/32" else ru.estimator(estimator)
        fields = {"model": model, "bits": bits, "estimator": estimators, "precision": precision, **more}
        recipe = Recipe(**fields, compile="off", batch_size=8, epochs=10)
        report(f"{model} {bits} {estimator} {precision} {more}", counted(recipe), 2)


def report(label: str, found, steps: int) -> None:
    copies, waits = found.total("copy", "pageable->device"), found.total("WAIT")
    pinned = found.total("copy", "pinned->device")
    counts = f"{found.kernels / steps:.0f} {copies / steps:.1f} {waits / steps:.1f} {pinned / steps:.1f}"
    print(f"CASE {counts} {label}", flush=True)
    for what, who in found.blame:
        if "WAIT" in what:
            print(f"  waits at {who}", flush=True)


def evaluation() -> None:
    """Three batches of test images, of which the last is odd; the sums are brought to the host once."""
    recipe, device = Recipe(compile="off", batch_size=8, eval_batch_size=8, epochs=10), torch.device("cuda")
    with numerics(recipe, device):
        loop = made_loop(recipe, 16, 20)
        for _ in range(2):
            with fakecuda.watched() as found, contextlib.suppress(ZeroDivisionError):  # nothing is counted here
                training.evaluate(loop.model, loop.data, recipe)
    report("evaluation", found, 1)


def bad(flaw: str) -> None:
    """A known-bad step, which the budget must refuse."""
    report(flaw, counted(Recipe(compile="off", batch_size=8, epochs=10), flaw=flaw), 2)


def signs() -> None:
    """In which precision convolutions are computed, and that the switch is put back."""
    plain, switch = exact.convolve, torch.backends.cudnn.conv
    for bits, precision, order in (
        *((bits, precision, "after") for bits in ("1/1", "1/32") for precision in ("fp32", "tf32", "bf16")),
        ("1/1", "fp32", "before"),
    ):
        seen = set()

        def noted(x, *rest, seen=seen):
            if x.dtype != torch.float64:  # the check's own
                seen.add(switch.fp32_precision)
            return plain(x, *rest)

        exact.convolve = binarize.convolve = noted
        recipe = Recipe(bits=bits, precision=precision, scale_order=order, compile="off", batch_size=8, epochs=10)
        before = switch.fp32_precision
        counted(recipe)
        print("SIGNS", bits, precision, order, *sorted(seen), switch.fp32_precision == before, flush=True)


def resume() -> None:
    """Train, stop and go on to the end, with evaluation, indicators and checkpoints."""
    recipe = Recipe(compile="off", batch_size=8, epochs=2, warmup_epochs=0, eval_batch_size=16)
    training.open_data = lambda *rest: images(recipe, 9 * 8 + 3, 32)
    training.evaluate = lambda *rest: {
        "loss": 0.0,
        "top1": 0.0,
        "top5": 0.0,
    }  # nothing is counted where nothing computes
    folder, calls = Path(tempfile.mkdtemp()), iter(range(1000))
    try:
        training.train(recipe, folder, "cuda", stop=lambda: next(calls) == 13, show=False)
    except Interrupted:
        print("STOPPED")
    _, history, environment = training.train(recipe, folder, "cuda", show=False)
    print("FINISHED", len(history), environment["gpu"], environment["tf32"])


def integral(*call) -> bool:
    """As the check of convolutions of signs, whose answer means nothing either."""
    return exact.integral(*call) or True


if __name__ == "__main__":
    if not fakecuda.loaded():
        sys.exit(fakecuda.run([__file__, *sys.argv[1:]]).returncode)
    training._Loop.raise_if_bad = look
    gpu.integral = integral
    {"sweep": sweep, "evaluation": evaluation, "signs": signs, "bad": bad, "resume": resume}[sys.argv[1]](*sys.argv[2:])
    sys.stdout.flush()
    os._exit(0)  # torch's teardown expects a real driver
