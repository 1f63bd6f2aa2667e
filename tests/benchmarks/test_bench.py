"""The benchmark's own arithmetic and its baseline. Nothing is timed here."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest
import torch

import benchmarks
import resteutils as ru
from benchmarks import authors, epoch, memory, scaling
from benchmarks import data as bench_data
from benchmarks.gpu import hours, roofline
from benchmarks.networks import CASES, VARIANTS, Case, build
from benchmarks.ratios import Row, row, steady
from benchmarks.report import TITLES, write
from resteutils.onebit.timing import Samples
from resteutils.recipes.rows import item_recipes

TINY = Case("resnet20", 4, 8)


def test_every_group_has_a_title_and_a_module() -> None:
    assert set(TITLES) == set(benchmarks.GROUPS)
    for case in CASES:
        assert case.name in ru.MODELS


def test_gpu_hours_are_known_for_every_run_on_cifar10() -> None:
    """The proxy of 16x16 pixels trains on a fifth of the images; it evaluates as many."""
    found = {r.row: hours.hours(r, hours.WAYS[0]) for r in item_recipes("why", "paper", seeds="0")}
    assert all(value > 0 for value in found.values())
    assert found["ste-proxy"] < found["ste"] / 3


def test_the_page_has_the_gpu_hours_that_the_script_prints(root: Path) -> None:
    page = (root / "docs" / "running.md").read_text(encoding="utf-8")
    for head, runs in (("item", hours.items()), ("block", hours.blocks())):
        assert "\n".join(hours.table(head, runs)) in page


def test_ratios_are_formed_turn_by_turn() -> None:
    """A machine that slows down five times over half-way leaves the ratio alone."""
    samples = {"a": Samples((1.0, 1.0, 5.0, 5.0)), "b": Samples((2.0, 2.0, 10.0, 10.0))}
    line = row("g", "c", samples, "a", "b", target=0.5)
    assert (line.ratio, line.low, line.high, line.repeats) == (0.5, 0.5, 0.5, 4)
    assert line.value == 3000
    assert line.reached
    assert not row("g", "c", samples, "b", "a", target=1.9).reached
    assert row("g", "c", samples, "b", "a").reached is None


def test_a_power_law_is_recognised() -> None:
    assert scaling._exponent((1, 2, 4, 8), [3.0, 12.0, 48.0, 192.0]) == pytest.approx(2)


def test_bytes_of_a_step_are_counted() -> None:
    weight = torch.zeros(1000, requires_grad=True)

    def step() -> None:
        (weight * torch.zeros(1000)).exp().sum().backward()
        weight.grad = None

    assert memory.kept_bytes(step) == 2 * 4000  # the other factor and the result of exp; weight needs no gradient there
    assert 3 * 4000 <= memory.peak_bytes(step) <= 8 * 4000


@pytest.mark.parametrize("o", [1.0, 1.7, 3.0])
def test_baseline_has_the_gradient_of_the_estimator(o: float) -> None:
    z = torch.cat([torch.linspace(-2, 2, 801), torch.tensor([0.1, -0.1, 1.5, -1.5])]).requires_grad_()
    gradient = torch.randn_like(z)
    (masked,) = torch.autograd.grad(authors.MaskedReSTE.apply(z, torch.tensor(o), 1.5, 0.1), z, gradient)
    torch.testing.assert_close(masked, gradient * ru.ReSTE(o=o).derivative(z.detach()))


def test_baseline_network_computes_the_same() -> None:
    """Away from the units whose sign or ReLU mask hangs on rounding: one layer, in float64."""
    ours = ru.BinaryConv2d(8, 4, 3, 1, 1, estimator=ru.ReSTE(o=1.7)).double()
    theirs = authors.MaskedConv2d(8, 4, 1, 1.7).double()
    theirs.load_state_dict({"weight": ours.weight})
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_the_competing_networks_have_the_same_weights() -> None:
    first, *rest = [
        sum(parameter.detach().abs().sum() for parameter in build(TINY, variant).parameters())
        for variant in VARIANTS.values()
    ]
    assert all(other == pytest.approx(float(first)) for other in rest)


def test_report_is_complete(tmp_path) -> None:
    rows = [
        row("step", "net", {"ours": Samples((1.0, 2.0)), "twin": Samples((2.0, 2.0))}, "ours", "twin", target=0.5),
        Row("scaling", "net, batch 8", "ours", "twin", 1.5, 1.4, 1.6, 3.0, 2.0, "ms", 9, axis="batch", at=8.0),
        Row("scaling", "net, batch 16", "ours", "twin", 1.5, 1.4, 1.6, 6.0, 4.0, "ms", 9, axis="batch", at=16.0),
        steady("memory", "net", "ours", "twin", (3.0, 2.0), "MB", note="kept"),
    ]
    write(rows, {"peers": "brevitas is not installed"}, tmp_path, full=False, seconds=1.2)
    text = (tmp_path / "bench.md").read_text()
    assert "| net | ours | twin | 0.750 [0.625, 0.875] | 1.33x | 2 | 0.500 | no |" in text
    assert "Not measured: brevitas is not installed." in text
    with open(tmp_path / "bench.csv") as file:
        lines = list(csv.DictReader(file))
    assert [line["reached"] for line in lines] == ["False", "", "", ""]
    assert float(lines[3]["ratio"]) == 1.5
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    origin = json.loads((tmp_path / "provenance.json").read_text())
    assert origin["machine"]["cores"] >= 1
    assert origin["skipped"] == {"peers": "brevitas is not installed"}


def test_an_unknown_group_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="no rows 'speed'; the groups are: estimator, step"):
        benchmarks.main(rows="speed", out=str(tmp_path))


def test_a_group_that_fails_leaves_the_others_rows(tmp_path, monkeypatch) -> None:
    def rows(full: bool):
        yield steady("memory", "net", "ours", "twin", (3.0, 2.0), "MB")
        raise RuntimeError("no room")

    monkeypatch.setattr(memory, "rows", rows)
    monkeypatch.setattr(benchmarks, "_settle", lambda: None)  # torch's switches, for a process that measures
    with pytest.raises(SystemExit, match="memory"):
        benchmarks.main(rows="memory", out=str(tmp_path))
    assert "net,ours,twin,1.5" in (tmp_path / "bench.csv").read_text()
    assert "RuntimeError: no room" in json.loads((tmp_path / "provenance.json").read_text())["skipped"]["memory"]


def test_an_epoch_of_the_benchmark_is_one_of_the_trainings(monkeypatch) -> None:
    """It uses the loop's own sums and indicators, whose signatures change with the loop."""
    monkeypatch.setattr(epoch, "CASE", Case("resnet20", 4))
    epoch._ours(bench_data.images(8), compiled=False)()


def test_the_rivals_network_is_the_twin_with_a_batchnorm_that_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many weights and layers; every BatchNorm of a block stands where a runtime takes it into the convolution."""
    from benchmarks.int8 import AIMS, folded_twin

    monkeypatch.setattr("resteutils.onebit.rivals.calibrated", lambda network, images: network)  # only the order counts
    for name in AIMS:
        parts = [type(part).__name__ for part in folded_twin(name).modules()]
        usual = [type(part).__name__ for part in ru.create(name, "32/32").modules()]
        assert sorted(parts) == sorted(usual)
        following = {b for a, b in zip(parts, parts[1:], strict=False) if a == "Conv2d"}
        assert following == {"BatchNorm2d"}


def test_kernels_and_bytes_of_a_step_are_ratios_to_the_float_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"kernels": kernels, "libraries": 78, "moved": moved} for kernels, moved in ((429, 3.98e9), (260, 3.01e9))]
    said = "a warning\n" + "\n".join(map(json.dumps, lines))
    done = subprocess.CompletedProcess([], 0, stdout=said, stderr="")
    monkeypatch.setattr(roofline.fakecuda, "run", lambda *command, **options: done)
    monkeypatch.setattr(roofline.shutil, "which", lambda name: name)
    kernels, moved = roofline.rows(False)
    assert kernels.ratio == 429 / 260
    assert (moved.value, moved.reference, moved.unit) == (pytest.approx(3980), pytest.approx(3010), "MB")
    done.returncode = 1
    with pytest.raises(RuntimeError, match="resnet20"):
        next(roofline.rows(False))
