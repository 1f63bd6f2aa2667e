"""One bit for real: size, speed and predictions of packed networks beside their float twins: item ``deploy``.

Files and predictions come from the item's runs. Speed does not depend on what was learned: it is measured on networks
of the same architecture at 32x32 RGB, whatever images the profile trained on, both sides taking turns.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from resteutils import kernels
from resteutils.evidence import verdict
from resteutils.evidence.summary import BACKBONES
from resteutils.evidence.table import Table
from resteutils.items.style import COLOURS, blank, styled
from resteutils.models import create
from resteutils.nn.layers import binary_layers
from resteutils.onebit import model as packed
from resteutils.onebit.export import beside_float
from resteutils.onebit.rivals import lead, rivals
from resteutils.onebit.timing import interleaved, race
from resteutils.recipes.build import open_data
from resteutils.runs.measurements import kept
from resteutils.system.settings import Places

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["beside_int8", "figure", "judge", "layers", "networks", "roofs", "speed", "table"]

LEAST_TIMES_SMALLER = {"resnet20": 20, "resnet18": 19, "vgg_small": 19}
CHANNELS_LAST = torch.channels_last
FILES = (
    "row model network seed epochs packed_kb float_kb times_smaller images identical logits top1_recorded top1_packed"
).split()
LONGEST = 5.0  # seconds of one race, where its turns take longer


# --- files and predictions --------------------------------------------------------------------------------------------


def networks(runs: Iterable[Any], places: Places) -> pd.DataFrame:
    """One line per W/A 1/1 run: bytes of both files, and how predictions compare; measured where its weights are on
    this disk, or as it was kept when they were.

    ``identical`` counts test images with the same prediction, ``logits`` is the largest difference of any logit.
    """
    import pandas as pd

    lines = []
    for run in (run for run in runs if run.recipe.bits == "1/1"):
        found = kept("packed", run, functools.partial(_packed, data_dir=str(places.data)), places.results)
        if found:
            r, network = run.recipe, BACKBONES.get(run.recipe.model, run.recipe.model)
            about = {"row": r.row, "model": r.model, "network": network, "seed": r.seed, "epochs": r.epochs}
            lines.append(about | found | {"top1_recorded": run.result["top1"]})
    return pd.DataFrame(lines, columns=FILES)


def _packed(run: Any, data_dir: str) -> dict[str, Any]:
    data, model, r = open_data(run.recipe, data_dir), run.model(), run.recipe
    small = packed.pack(model, run, data=data)
    same, largest, images, right = _compare(model, small, data)
    twin = state_bytes(create(r.model, "32/32", None, None, len(data.classes), r.image_size, r.in_channels))
    return {
        "packed_kb": small.bytes / 1e3, "float_kb": twin / 1e3, "times_smaller": twin / small.bytes, "images": images,
        "identical": same, "logits": largest, "top1_packed": 100 * right / images,
    }  # fmt: skip


@torch.inference_mode()
def _compare(model: torch.nn.Module, small: packed.PackedModel, data: Any) -> tuple[int, float, int, int]:
    """Test images with equal predictions, largest difference of a logit, test images, images that packed gets right."""
    same = images = right = 0
    largest = 0.0
    float_arithmetic(model)
    for batch, labels in data.test_batches(256):
        expected, found = model(batch), small(batch)
        same += int((expected.argmax(1) == found.argmax(1)).sum())
        right += int((found.argmax(1) == labels).sum())
        largest = max(largest, float((expected - found).abs().max()))
        images += len(labels)
    return same, largest, images, right


def float_arithmetic(model: torch.nn.Module) -> torch.nn.Module:
    """Keep the network's own layers off the packed kernel: it is what packed results are compared with."""
    for _, layer in binary_layers(model):
        layer.packed = False
    return model


def state_bytes(model: torch.nn.Module) -> int:
    """Size of the file that ``torch.save`` makes of the network's state."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell()


# --- speed ------------------------------------------------------------------------------------------------------------


def speed(models: Iterable[str] = tuple(LEAST_TIMES_SMALLER), batches: Iterable[int] = (1, 64)) -> pd.DataFrame:
    """Whole networks, 32x32 RGB: median milliseconds of packed and float, and quartiles of the ratio turn by turn.

    Float is the better of torch's two memory formats.
    """
    import pandas as pd

    lines = []
    for name in models:
        torch.manual_seed(0)
        small, twin = packed.pack(create(name)), create(name, "32/32")
        for batch in batches:
            line = beside_float(small, twin, batch, repeats=31 if batch == 1 else 7, budget=LONGEST)
            lines.append({"network": BACKBONES[name], "batch": batch, "threads": torch.get_num_threads(), **line})
    return pd.DataFrame(lines)


def beside_int8(profile: str, batches: Iterable[int] = (1, 64)) -> pd.DataFrame:
    """The same networks against the runtimes of :mod:`resteutils.onebit.rivals` that are installed: median
    milliseconds, quartiles of the ratio turn by turn, and kilobytes of both files. Empty where none is installed.

    Profile smoke takes the smallest network alone: quantising the others is most of a minute.
    """
    import pandas as pd

    lines, threads = [], torch.get_num_threads()
    models = ["resnet20"] if profile == "smoke" else list(LEAST_TIMES_SMALLER)
    for name in models if kernels.available() else ():
        torch.manual_seed(0)
        images, small = torch.randn(128, 3, 32, 32), packed.pack(create(name))
        for rival, found in rivals(name, images).items():
            runner, size = found.runner(threads), {"rival_kb": found.bytes / 1e3, "packed_kb": small.bytes / 1e3}
            for batch in batches:
                line = race(
                    functools.partial(small, images[:batch]), [functools.partial(runner, images[:batch].numpy())],
                    repeats=31 if batch == 1 else 7, budget=LONGEST, lead=lead(threads),
                )  # fmt: skip
                line["rival_ms"] = line.pop("float_ms")
                about = {"network": BACKBONES[name], "rival": rival, "batch": batch, "threads": threads}
                lines.append(about | {column: line[column] for column in RACED} | size)
    return pd.DataFrame(lines, columns=INT8_COLUMNS)


RACED = ["packed_ms", "rival_ms", "times_faster", "low", "high", "turns"]
INT8_COLUMNS = ["network", "rival", "batch", "threads", *RACED, "packed_kb", "rival_kb"]
LAYER_COLUMNS = (
    "layer packed_ms float_ms times_faster low high turns packed_gmacs float_gmacs packed_intensity float_intensity"
).split()


def layers() -> pd.DataFrame:
    """The distinct binary 3x3 layers of ResNet-18 at batch 1: milliseconds, GMAC/s and multiply-accumulates per byte.

    Bytes are those that must move once: weights, input and output; weights as bits on the packed side. Without the
    compiled kernels there is nothing to time: the frame is empty.
    """
    import pandas as pd

    if not kernels.available():
        return pd.DataFrame(columns=LAYER_COLUMNS)
    network, seen, lines = create("resnet18").eval(), {}, []
    for name, layer in binary_layers(network):
        layer.register_forward_pre_hook(lambda _, inputs, name=name: seen.__setitem__(name, inputs[0].shape))
    with torch.inference_mode():
        network(torch.randn(1, 3, 32, 32))
    shapes = {(layer.weight.shape, layer.stride, seen[name]) for name, layer in binary_layers(network)}
    for weight_shape, stride, shape in sorted(shapes, key=lambda s: (s[0][0], s[0][1])):
        x, weight = torch.randn(shape).to(memory_format=CHANNELS_LAST), torch.randn(weight_shape)
        first, last, bits = x.contiguous(), weight.to(memory_format=CHANNELS_LAST), kernels.pack_weight(weight)
        line = race(
            lambda x=x, b=bits, s=stride: kernels.binary_conv2d_packed(x, b, s, (1, 1)),
            (
                lambda x=x, w=last, s=stride: F.conv2d(x, w, None, s, 1),
                lambda x=first, w=weight, s=stride: F.conv2d(x, w, None, s, 1),
            ),
            repeats=51,
            budget=LONGEST,
        )
        out = weight.shape[0] * (shape[2] // stride[0]) * (shape[3] // stride[1])
        macs, moved = out * weight[0].numel(), 4 * (x.numel() + out)
        lines.append({
            "layer": f"{weight.shape[1]} to {weight.shape[0]}, {shape[2]}x{shape[3]}, stride {stride[0]}",
            **line, "packed_gmacs": macs / line["packed_ms"] / 1e6, "float_gmacs": macs / line["float_ms"] / 1e6,
            "packed_intensity": macs / (moved + weight.numel() / 8),
            "float_intensity": macs / (moved + 4 * weight.numel()),
        })  # fmt: skip
    return pd.DataFrame(lines)


def roofs() -> dict[str, float]:
    """The machine's roofs: GMAC/s of a float32 matrix product, GB/s of copying what no cache near a core holds."""
    a, b = torch.randn(1024, 1024), torch.randn(1 << 24)
    c, d = torch.empty_like(a), torch.empty_like(b)
    samples = interleaved({"multiply": lambda: torch.mm(a, a, out=c), "copy": lambda: d.copy_(b)}, repeats=7)
    multiply, copy = samples["multiply"].best, samples["copy"].best
    return {"gmacs": 1024**3 / multiply / 1e9, "gb_per_s": 2 * 4 * b.numel() / copy / 1e9}


# --- table, picture, verdict ------------------------------------------------------------------------------------------


def table(files: pd.DataFrame, speeds: pd.DataFrame, int8: pd.DataFrame, by_layer: pd.DataFrame, profile: str) -> Table:
    """Files and predictions, whole networks, the same beside other runtimes, and the layers of ResNet-18."""
    sections = {
        "Files and predictions": files.drop(columns="model", errors="ignore"),
        "Whole networks": speeds,
        "Beside other runtimes": int8,
        "Layers of ResNet-18, batch 1": by_layer,
    }
    path = kernels.paths()[0] if kernels.available() else f"none: {kernels.why_not()}"
    caption = (
        f"Profile {profile}; speed at 32x32 RGB on {torch.get_num_threads()} threads, kernel path {path}; medians, and "
        "quartiles of the ratio over alternating turns. INT8 is static and per output channel, of the float twin."
    )
    return Table(files, {k: v.round(3) for k, v in sections.items()}, caption)


@styled
def figure(speeds: pd.DataFrame, by_layer: pd.DataFrame, machine: dict[str, float]) -> Figure:
    """Left: the roofline under the ``machine``'s :func:`roofs`. Right: how many times faster whole networks are."""
    picture, (left, right) = blank(8.2, 3.8, ncols=2)
    left.set_title("Layers of ResNet-18, batch 1" if by_layer.empty else _layers_said(by_layer, machine))
    if by_layer.empty:
        left.text(0.5, 0.5, "no compiled kernels here", ha="center", va="center", transform=left.transAxes)
        left.set_axis_off()
    else:
        _roofline(left, by_layer, machine)
    names = [f"{line.network}, batch {line.batch}" for line in speeds.itertuples()]
    spread = [speeds.times_faster - speeds.low, speeds.high - speeds.times_faster]
    right.barh(range(len(names)), speeds.times_faster, xerr=spread, color=COLOURS["ReSTE"], height=0.6)
    right.axvline(1, color="#777777", lw=1.2)
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.set(xlabel="times faster than float32 (median, quartiles)")
    faster = speeds.times_faster
    times = f": {faster.min():.1f} to {faster.max():.1f} times as fast" if len(names) else ""
    right.set_title(f"Whole networks{times}")
    return picture


def _layers_said(by_layer: pd.DataFrame, machine: dict[str, float]) -> str:
    above = int((by_layer.packed_gmacs > machine["gmacs"]).sum())
    return f"{above} of {len(by_layer)} packed layers pass float32's roof"


def _roofline(left: Axes, by_layer: pd.DataFrame, machine: dict[str, float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    gmacs, gb_per_s = machine["gmacs"], machine["gb_per_s"]
    low = min(by_layer.float_intensity.min(), by_layer.packed_intensity.min()) / 3
    high = max(by_layer.float_intensity.max(), by_layer.packed_intensity.max()) * 3
    left.plot([low, gmacs / gb_per_s, high], [low * gb_per_s, gmacs, gmacs], color="#777777", lw=1.2)
    left.annotate("float32 matrix product", (high, gmacs), (0, 4), textcoords="offset points", ha="right", fontsize=7.5)
    for kind, colour, label in (
        ("packed", COLOURS["ReSTE"], "1 bit, packed"),
        ("float", COLOURS["FP"], "float32, torch"),
    ):
        left.plot(by_layer[f"{kind}_intensity"], by_layer[f"{kind}_gmacs"], "o", color=colour, ms=5, label=label)
    left.set(xscale="log", yscale="log", xlabel="multiply-accumulates per byte moved", ylabel="GMAC/s")
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    left.legend(loc="lower right")


def judge(files: pd.DataFrame, speeds: pd.DataFrame, by_layer: pd.DataFrame, profile: str) -> verdict.Verdict:
    """Predictions and sizes hold or fail on any machine; speeds are this machine's and decide nothing elsewhere."""
    checks = []
    for line in files.itertuples():
        name = f"{line.network}, seed {line.seed}"
        shown = f"{line.identical:,} of {line.images:,} test images; largest difference of a logit {line.logits:.2g}"
        checks.append(
            verdict.fact(f"{name}: packed predictions are the model's own", line.identical == line.images, shown)
        )
        least = LEAST_TIMES_SMALLER.get(line.model, 1)
        shown = f"{line.packed_kb:,.1f} kB against {line.float_kb:,.1f} kB: {line.times_smaller:.1f} times smaller"
        checks.append(
            verdict.fact(f"{name}: the file is at least {least} times smaller", line.times_smaller >= least, shown)
        )
    for line in speeds.itertuples():
        shown = f"{line.times_faster:.1f} times ({line.low:.1f} to {line.high:.1f}), {line.packed_ms:.2f} ms per batch"
        name = f"{line.network}, batch {line.batch}: faster than float32 in torch"
        checks.append(verdict.fact(name, line.low > 1, shown, kind="control"))
    for line in by_layer.itertuples():
        shown = f"{line.times_faster:.1f} times ({line.low:.1f} to {line.high:.1f}), {line.packed_gmacs:,.0f} GMAC/s"
        checks.append(
            verdict.fact(f"layer {line.layer}: faster than float32 in torch", line.low > 1, shown, kind="control")
        )
    note = (
        ""
        if len(files)
        else "No run of this item has its weights on this disk or was packed when it had: there is nothing to compare."
    )
    return verdict.judge(profile, checks, note)
