"""results/bench/: the rows as Markdown, CSV and a chart, with where they came from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from benchmarks.ratios import Row
from resteutils.runs.provenance import provenance
from resteutils.system.files import write_atomic

__all__ = ["markdown", "write"]

TITLES = {
    "estimator": "The estimator alone, forward and backward",
    "step": "Training step",
    "gradients": "Gradients of a binary layer",
    "compiling": "Compiling",
    "epoch": "Epoch and indicators",
    "data": "Training batches",
    "evaluation": "Evaluation",
    "memory": "Memory",
    "startup": "Start-up",
    "scaling": "Scaling",
    "peers": "Other libraries",
    "onebit": "One bit",
    "int8": "One bit beside INT8",
    "gpu.roofline": "Kernels and bytes on a GPU that is not there",
}
PACKAGES = ("brevitas", "bitorch", "openvino", "nncf")


def write(rows: list[Row], skipped: dict[str, str], folder: str | Path, full: bool, seconds: float) -> Path:
    """Write bench.md, bench.csv, bench.png and provenance.json to ``folder``, each whole or not at all."""
    folder = Path(folder)
    origin = provenance() | {"full": full, "seconds": round(seconds), "skipped": skipped}
    origin["versions"] |= _versions()
    write_atomic(folder / "bench.csv", _csv(rows))
    write_atomic(folder / "bench.png", _chart(rows))
    write_atomic(folder / "bench.md", markdown(rows, skipped, origin))
    write_atomic(folder / "provenance.json", json.dumps(origin, indent=2) + "\n")
    return folder


def _versions() -> dict[str, str]:
    from importlib import metadata

    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _csv(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    names = [field.name for field in fields(Row)] + ["reached"]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(asdict(row) | {"reached": "" if row.reached is None else row.reached})
    return text.getvalue()


def markdown(rows: list[Row], skipped: dict[str, str], origin: dict) -> str:
    """Targets first, then one table per group."""
    machine = origin["machine"]
    lines = [
        "# Benchmark",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, {machine['simd']}"
        f"{', ' + machine['gpu'] if machine['gpu'] else ''}; torch {origin['versions']['torch']}; commit "
        f"{origin['commit'][:12]}{' with uncommitted changes' if origin['dirty'] else ''}; {origin['created']}; "
        f"{origin['seconds']} s, "
        f"{'make bench-full' if origin['full'] else 'make bench'}.",
        "",
        "Every ratio is time (or memory) of the first over that of the second, measured in turn in one process; the",
        "median over n turns, with the quartiles in brackets. Below 1 the first is cheaper; *faster* is one over it.",
    ]
    aims = [row for row in rows if row.target is not None]
    if aims:
        lines += ["", "## Targets", "", *_table(aims, targets=True)]
    for group, title in TITLES.items():
        found = [row for row in rows if row.group == group]
        if found or group in skipped:
            lines += ["", f"## {title}", ""]
            lines += _table(found, targets=False) if found else [f"Not measured: {skipped[group]}."]
    lines += ["", "![ratios](bench.png)", ""]
    return "\n".join(lines)


def _table(rows: list[Row], targets: bool) -> list[str]:
    extra = ["at most", "reached"] if targets else ["measured", "note"]
    head = ["case", "first", "second", "ratio", "faster", "n", *extra]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        spread = f" [{row.low:.3f}, {row.high:.3f}]" if row.repeats > 1 else ""
        cells = [
            row.case,
            row.variant,
            row.against,
            f"{row.ratio:.3f}{spread}",
            f"{1 / row.ratio:.2f}x" if row.ratio else "",
            str(row.repeats),
        ]
        if targets:
            cells += [f"{row.target:.3f}", "yes" if row.reached else "no"]
        else:
            cells += [f"{row.value:.4g} against {row.reference:.4g} {row.unit}", row.note]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _chart(rows: list[Row]) -> bytes:
    """Left: the ratios with targets, as a share of their target. Right: the curves of the scaling group."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    aims = [row for row in rows if row.target is not None]
    axes_of = list(dict.fromkeys(row.axis for row in rows if row.axis))
    figure = Figure(figsize=(11, 1.5 + max(0.34 * len(aims), 1.9 * len(axes_of))), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subfigures(1, 2, width_ratios=(1.6, 1)) if axes_of else (figure, None)
    _draw_targets(left.add_subplot(), aims)
    for index, axis in enumerate(axes_of):
        points = [row for row in rows if row.axis == axis]
        _draw_curve(right.add_subplot(len(axes_of), 1, index + 1), axis, points)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    return picture.getvalue()


def _draw_targets(ax, rows: list[Row]) -> None:
    names = [f"{row.group}: {row.case}\n{row.variant} / {row.against}" for row in rows]
    shares = [row.ratio / row.target for row in rows]
    ax.barh(names, shares, color=["#0072B2" if row.reached else "#D55E00" for row in rows], height=0.7)
    ax.axvline(1, color="black", linewidth=1)
    reached = sum(bool(row.reached) for row in rows)
    ax.set_title(f"{reached} of {len(rows)} targets are reached", loc="left", fontweight="bold")
    ax.set_xlabel("share of what the target allows (left of the line: reached)")
    ax.tick_params(axis="y", labelsize=8)
    ax.set_ylim(len(rows) - 0.4, -0.6)


def _draw_curve(ax, axis: str, rows: list[Row]) -> None:
    points = [row.at for row in rows]
    ax.plot(points, [row.value for row in rows], "o-", color="#0072B2", label=rows[0].variant)
    ax.plot(points, [row.reference for row in rows], "s--", color="#D55E00", label=rows[0].against)
    ax.set(xscale="log", yscale="log", xlabel=axis, ylabel="ms a step")
    ax.set_xticks(points, [f"{point:g}" for point in points])
    ax.minorticks_off()
    ax.legend(fontsize=8)
