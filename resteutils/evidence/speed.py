"""The tables of docs/speed.md and README that print what the benchmark measured, from its committed CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resteutils.evidence.html import markdown
from resteutils.evidence.summary import BACKBONES

__all__ = ["MEASURED", "OTHER", "blocks"]

MEASURED = Path("bench") / "bench.csv"  # below the results folder
OTHER = [Path("bench") / name / "bench.csv" for name in ("avx512-data-onebit", "avx512")]  # an earlier version, AVX-512
NETWORKS = {name: BACKBONES[name] for name in ("resnet20", "resnet18", "vgg_small")}
RIVALS = ("INT8, OpenVINO", "INT8, onnxruntime", "float32, onnxruntime")
AUTHORS, TWIN, PACKED = "authors' formulation", "float twin, compiled", "ours, compiled, packed forward"
TABLES = f"{PACKED}, table gradients"
STEPS = [f"{name} batch" for name in NETWORKS]
LARGE = ("resnet18", "vgg_small")
INT8_CASES = [f"batch {batch}, {threads}" for threads in ("1 thread", "2 threads") for batch in (1, 64)]
Row = dict[str, str]


@dataclass(frozen=True)
class Line:
    """A line of the main table: what is compared with what, and the rows whose ratios it prints, one for each case."""

    what: str
    against: str
    cases: Sequence[str]
    variant: str
    rival: str
    faster: bool = True


MAIN = (
    Line("training step of ResNet-20 (batch 128), ResNet-18, VGG-small (batch 32), compiled, on floats",
         "the authors' formulation", STEPS, "ours, compiled", AUTHORS),
    Line("the same, forward pass on packed bits", "the authors' formulation", STEPS, PACKED, AUTHORS),
    Line("that, and gradients by tables", "the authors' formulation", STEPS, TABLES, AUTHORS),
    Line("forward pass on packed bits", "the float twin, compiled too", STEPS, PACKED, TWIN, faster=False),
    Line("the same, and gradients by tables", "the float twin, compiled too", STEPS, TABLES, TWIN, faster=False),
    Line("peak memory of a step, ResNet-20, eager", "the float twin", ["resnet20 batch 128, peak"], "ours, eager",
         "float twin, eager", faster=False),
    Line("the same, compiled", "the float twin", ["resnet20 batch 128, peak"], "ours, compiled", TWIN, faster=False),
    Line("loading and augmenting CIFAR-10", "per-image transforms, 2 workers", ["50,000 images"],
         "ours, whole batches", "per-image transforms, 2 workers"),
    Line("one 3x3 layer on packed bits, 256 and 128 channels, 1 thread", "the best float32 convolution",
         [f"3x3 layer, {channels} channels, {size}, batch 1, 1 thread" for channels, size in
          ((256, "14x14"), (128, "16x16"))], "packed", "float"),
    Line("the layer of 256 channels, 1 thread", "larq-compute-engine",
         ["3x3 layer, 256 channels, 14x14, batch 1, 1 thread"], "packed", "larq-compute-engine"),
    Line("whole network on packed bits, batch 1, 1 thread, ResNet-18 and VGG-small", "onnxruntime, float32",
         [f"{name}, batch 1, 1 thread" for name in LARGE], "packed", "float, onnxruntime"),
    Line("evaluation in training, packing included, ResNet-18 and VGG-small", "the float twin, compiled",
         [f"evaluation of {name}" for name in LARGE], "network on packed bits", TWIN),
    Line("`import resteutils`", "`import torch`", ["a fresh interpreter"], "import resteutils", "import torch",
         faster=False),
)  # fmt: skip

# What is waited for, in seconds.
ONCE = {"first line": "first line about an epoch or a run", "compiling the kernels": "compiling the 1-bit kernels"}


def blocks(results: Path) -> dict[str, str]:
    """Every block by name, as Markdown, of the networks that were measured; none where there is no CSV."""
    rows, other = _read(results / MEASURED), [row for file in OTHER for row in _read(results / file)]
    if not rows:
        return {}
    return {
        "speed-machine": _machine(results / MEASURED.parent / "provenance.json"),
        "speed-main": _main(rows, other),
        "speed-gradients": _gradients(rows),
        "speed-int8": _beside_int8(rows),
        "speed-asked": _asked(rows),
        "speed-front": _front(rows),
    }


def _read(file: Path) -> list[Row]:
    if not file.is_file():
        return []
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _machine(file: Path) -> str:
    if not file.is_file():
        return "Where this was measured is not known."
    found = json.loads(file.read_text(encoding="utf-8"))
    machine, command = found["machine"], "make bench-full" if found["full"] else "make bench"
    return (
        f"One run of `{command}`, {found['seconds'] / 60:.0f} minutes, on {machine['cores']} cores of an "
        f"{machine['cpu']} ({machine['simd']}) with {machine['threads']} threads where a row does not say otherwise; "
        f"torch {found['versions']['torch']}, commit {found['commit'][:7]}, {found['created'][:10]}."
    )


def _main(rows: list[Row], other: list[Row]) -> str:
    lines = [[line.what, line.against, _ratios(rows, line), _ratios(other, line)] for line in MAIN]
    for variant, what in ONCE.items():
        if row := _find(rows, "", variant, ""):
            lines.append([f"{what}: {row['case']}", "-", f"{float(row['value']):.0f} s", "not measured"])
    return markdown(["what", "against", "AVX2", "AVX-512, earlier"], lines)


def _ratios(rows: list[Row], line: Line) -> str:
    found = [row for case in line.cases if (row := _find(rows, case, line.variant, line.rival))]
    if not found:
        return "not measured"
    if line.faster:
        return ", ".join(_short(1 / float(row["ratio"])) for row in found) + " times faster"
    return ", ".join(f"{float(row['ratio']):.2f}" for row in found) + " of it"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 20 else f"{value:.0f}"


def _gradients(rows: list[Row]) -> str:
    found = [row for row in rows if row["group"] == "gradients" and row["variant"].endswith(", tables")]
    cases = dict.fromkeys(row["case"] for row in found)
    pairs = ([row for row in found if row["case"] == case] for case in cases)
    lines = [[case, *(_faster(row) for row in pair)] for case, pair in zip(cases, pairs, strict=True)]
    return markdown(["layer of 3x3", "gradient of the input", "of the weights"], lines)


def _asked(rows: list[Row]) -> str:
    """How many of the ratios with a target reach it, and those that do not."""
    reached = [row["reached"] == "True" for row in rows if row["reached"]]
    said = f"{sum(reached)} of {len(reached)} ratios reach their target."
    lines = [
        [row["case"], row["variant"], row["against"], f"{float(row['target']):.2f}", _quartiles(row)]
        for row in rows if row["reached"] == "False"
    ]  # fmt: skip
    if not lines:
        return said
    return f"{said} The others:\n\n{markdown(['case', 'what', 'against', 'at most', 'measured'], lines)}"


def _beside_int8(rows: list[Row]) -> str:
    lines = []
    for name, network in NETWORKS.items():
        own = _find(rows, name, "packed", "its network in torch")
        for rival in RIVALS:
            file = _find(rows, name, "packed file", f"{rival} file")
            same = _find(rows, name, rival, "its network in torch")
            if not (own and file and same):
                continue
            speed = [_faster(_find(rows, f"{name}, {case}", "packed", rival)) for case in INT8_CASES]
            classes = f"{float(same['ratio']):.0%}, packed {float(own['ratio']):.0%}"
            lines.append([network, rival, *speed, f"{1 / float(file['ratio']):.1f} times smaller", classes])
    return markdown(["network", "packed bits against", *INT8_CASES, "file", "same classes as in float"], lines)


def _front(rows: list[Row]) -> str:
    lines = []
    for name, network in NETWORKS.items():
        step = _find(rows, f"{name} batch", TABLES, TWIN)
        speed = [_find(rows, f"{name}, batch {batch}, 1 thread", "packed", RIVALS[0]) for batch in (1, 64)]
        lines.append([network, f"{float(step['ratio']):.2f} of it" if step else "not measured", *map(_faster, speed)])
    head = ["network", "training step, 2 threads: share of the float twin's time, both compiled",
            "on bits against OpenVINO's INT8, 1 thread, batch 1", "batch 64"]  # fmt: skip
    return markdown(head, lines)


def _find(rows: list[Row], case: str, variant: str, against: str) -> Row | None:
    """The row of this variant whose case and rival begin with these."""
    found = (r for r in rows if r["variant"] == variant and r["against"].startswith(against))
    return next((r for r in found if r["case"].startswith(case)), None)


def _faster(row: Row | None) -> str:
    if row is None:
        return "not measured"
    low, middle, high = (1 / float(row[name]) for name in ("high", "ratio", "low"))
    if middle < 1:
        return f"{1 / middle:.2f} times slower [{1 / high:.2f}, {1 / low:.2f}]"
    return f"{middle:.2f} times faster [{low:.2f}, {high:.2f}]"


def _quartiles(row: Row) -> str:
    return f"{float(row['ratio']):.2f} [{float(row['low']):.2f}, {float(row['high']):.2f}]"
