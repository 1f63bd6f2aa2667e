"""What every test shares: seeds, folders of its own, no tracking service, the device under test."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

collect_ignore = ["typing"]  # for type checkers: never run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="device that tests of tensors run on: cpu (default), cuda, mps")
    parser.addoption("--fakecuda", action="store_true", help="all tests on the CUDA runtime that computes nothing")


def pytest_configure(config: pytest.Config) -> None:
    # Set before any test imports wandb, and inherited by the processes that tests start.
    os.environ["WANDB_MODE"] = "disabled"
    os.environ["WANDB_SILENT"] = "true"

    from hypothesis import settings

    settings.register_profile("suite", deadline=None, max_examples=60)  # never time things in tests
    settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    from helpers import faults

    report = yield
    if call.when == "call" or (call.when == "setup" and not report.passed):
        faults.noted(report, [kind for marker in item.iter_markers("faults") for kind in marker.args])
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    from helpers import faults

    reports = [report for state in ("passed", "failed", "skipped") for report in terminalreporter.stats.get(state, ())]
    if found := faults.lines(report for report in reports if hasattr(report, "user_properties")):
        terminalreporter.section("faults")
        terminalreporter.write_line("\n".join(found))


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config):
    """The torch device of `pytest --device ...`; the tests that take it are skipped where the machine has none."""
    import torch

    chosen = torch.device(pytestconfig.getoption("--device"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("--device cuda: torch sees no CUDA device here")
    return chosen


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers in every test, in whatever order they run."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (libraries under test may use the legacy generator)
    torch.manual_seed(0)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set how many threads torch computes on; the number is put back."""
    import torch

    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def one_thread(threads: Callable[[int], None]) -> None:
    """Sums depend on how many threads share them."""
    threads(1)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and results of a test go to its own folder, never into the checkout."""
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "results"))


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all tests that use this fixture: digits are written as files once, kernels not compiled anew."""
    from resteutils.kernels import build

    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(build.library_path().parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def results_dir(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout under test."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def cifar_dir() -> Path:
    """The folder that holds ``cifar-10-batches-py``; where it is absent the test is skipped and says so."""
    from resteutils.system.settings import data_dir

    folder = data_dir()
    if not (folder / "cifar-10-batches-py" / "data_batch_1").is_file():
        pytest.skip(f"no CIFAR-10 in {folder}; set DATA_DIR to the folder that holds cifar-10-batches-py")
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Call the command line in this process; return (status, stdout, stderr)."""
    from resteutils.cli import commands as cli

    monkeypatch.delenv("RESTEUTILS_DEBUG", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(list(arguments))
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return call
