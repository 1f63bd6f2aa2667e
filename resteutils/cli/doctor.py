"""Is this machine ready? One line for each thing that a reproduction needs: ok, a warning, or what to do.

A warning names what works less well without it, "optional" what an extra would add; "problem" means that
`make reproduce` would fail.
"""

from __future__ import annotations

import functools
import importlib.metadata as metadata
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from resteutils.system.cores import usable_cores
from resteutils.system.files import LEAST_FREE_BYTES, nearest
from resteutils.system.settings import cache_dir, data_dir, project_root, results_dir, runs_dir, user_cache

__all__ = ["Finding", "examine"]

FREE_GB_WISHED = 5.0
LEAST_SHARED_BYTES = 1_000_000
OPTIONAL = {  # extra: what it is for
    "app": "the explorer in Voila",
    "cluster": "resteutils launch",
    "export": "resteutils export --to onnx",
    "integrations": "callbacks of Lightning and of Hugging Face's Trainer",
    "hub": "folders for the Hugging Face Hub",
    "bench": "the rows of make bench that compare with other libraries",
    "dev": "make test",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``state`` is "ok", "optional", "warning" or "problem"; ``text`` ends with
    what to do, where there is something to do.
    """

    state: str
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.state:<8} {self.subject:<12} {self.text}"


def examine(data: str = "", runs: str = "", results: str = "") -> Iterator[Finding]:
    """Every finding, in the order in which a newcomer needs them; ``data``, ``runs`` and ``results`` are folders as in
    :mod:`resteutils.system.settings`. Nothing is written, downloaded or asked for.
    """
    checks = {
        "python": python,
        "packages": packages,
        "device": device,
        "compiler": compiler,
        "datasets": lambda: datasets(data_dir(data)),
        "disk": lambda: disk(data_dir(data), runs_dir(runs), results_dir(results)),
        "home": home,
        "cache": cache,
        "shm": shared_memory,
        "kernel": kernelspec,
        "wandb": tracking,
        "git": git,
        "cluster": cluster,
    }
    for subject, check in checks.items():
        try:
            found = check()
            yield from [found] if isinstance(found, Finding) else found
        except (ImportError, OSError) as error:  # a package that is missing or broken: the others are still told
            yield Finding("problem", subject, f"{type(error).__name__}: {error}")


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("ok", "python", f"{version} in {sys.prefix}")


def packages() -> Iterator[Finding]:
    """The core against pyproject.toml's lower bounds; then the extras, whose absence only costs what they are for."""
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(line) for line in metadata.requires("resteutils") or []]
    except metadata.PackageNotFoundError:
        yield Finding("problem", "packages", f"resteutils is not installed here: {_install()}")
        return
    core = [requirement for requirement in declared if requirement.marker is None]
    lacking = [text for text in map(_lacking, core) if text]
    if lacking:
        yield Finding("problem", "packages", f"{'; '.join(lacking)}: {_install()}")
    else:
        yield Finding("ok", "packages", f"{len(core)} core packages, all within pyproject.toml's bounds")
    for extra, purpose in OPTIONAL.items():
        wanted = [r for r in declared if r.marker is not None and r.marker.evaluate({"extra": extra})]
        lacking = [text for text in map(_lacking, wanted) if text]
        if lacking:
            yield Finding("optional", extra, f"{'; '.join(lacking)}; only for {purpose}: {_install(extra)}")


def _install(extra: str = "") -> str:
    """The command that installs the package as it is here: from the checkout, else from an index."""
    checkout = (Path(__file__).parents[2] / "pyproject.toml").is_file()
    named = f"{'.' if checkout else 'resteutils'}{f'[{extra}]' if extra else ''}"
    return f"pip install {'-e ' if checkout else ''}{shlex.quote(named)}"


def _lacking(requirement) -> str:
    """What is wrong with one requirement, or ``""``."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} {version} is not {requirement.specifier}"
    return ""


def device() -> Iterator[Finding]:
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            yield Finding("ok", "device", f"cuda:{index} {gpu.name}, {gpu.total_memory / 1e9:.0f} GB")
        yield mps()
    elif shutil.which("nvidia-smi") and _prints(["nvidia-smi", "-L"]):
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        text = (
            f"a GPU is here but torch {torch.__version__} ({build}) cannot use it: install a build that fits the driver"
        )
        yield Finding("warning", "device", text)
    else:
        cost = "no GPU: one ResNet-20 run of profile paper takes days here, its tables years"
        yield Finding("ok", "device", f"cpu, torch {torch.__version__} ({cost})")
    yield threads()


def threads() -> Finding:
    """More threads than cores wait for each other: torch counts a machine's cores, a container may use fewer."""
    ours, cores = torch.get_num_threads(), usable_cores()
    if ours > cores:
        remedy = f"set OMP_NUM_THREADS={cores}"
        return Finding("warning", "threads", f"torch starts {ours}, but this process may use {cores} core(s): {remedy}")
    return Finding("ok", "threads", f"{ours} of {cores} cores, {torch.backends.cpu.get_cpu_capability()}")


def mps() -> Finding:
    """CUDA's Multi-Process Service lets the kernels of several processes run on a GPU at once."""
    control = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or "/tmp/nvidia-mps") / "control"
    if control.exists():
        return Finding("ok", "mps", f"{control.parent}: `launch --parallel 4` shares a GPU among small runs")
    remedy = "for several small runs on one GPU (`launch --parallel 4`) start it: nvidia-cuda-mps-control -d"
    return Finding("optional", "mps", f"no CUDA MPS daemon, so processes take turns on a GPU; {remedy}")


def compiler() -> Finding:
    from resteutils.kernels.build import program_of

    chosen = os.environ.get("CXX", "")
    names = [program_of(chosen)] if chosen else ["c++", "g++", "clang++"]
    if found := next(filter(None, map(shutil.which, names)), ""):
        return Finding("ok", "compiler", f"{found}{f' (CXX={chosen})' if chosen else ''}")
    what = f"CXX={chosen} is not found" if chosen else "no C++ compiler"
    remedy = "unset CXX or name one that is there" if chosen else "on Debian: apt-get install g++"
    return Finding(
        "warning", "compiler", f"{what}: no packed 1-bit kernel and no torch.compile, the rest works; {remedy}"
    )


def datasets(folder: Path) -> Iterator[Finding]:
    yield Finding("ok", "digits", "scikit-learn ships them: the demo profile needs no download")
    yield cifar10(folder)
    if os.path.isdir(folder / "train") and os.path.isdir(folder / "val"):
        yield Finding("ok", "imagenet", f"{folder}/train and {folder}/val")
    else:
        yield Finding("ok", "imagenet", f"no train/ and val/ in {folder}; only table2 at short or paper asks for them")


def cifar10(folder: Path) -> Finding:
    archive = folder / "cifar-10-batches-py"
    if not os.path.isdir(archive):
        text = f"not in {folder}: the short and paper profiles download it (170 MB), or set DATA_DIR to where it is"
        return Finding("warning", "cifar10", text)
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    bad = [name for name, md5 in CIFAR10.train_list + CIFAR10.test_list if not check_integrity(archive / name, md5)]
    if bad:
        text = f"{archive}: missing or damaged: {', '.join(bad)}: remove the folder and download again"
        return Finding("problem", "cifar10", text)
    return Finding("ok", "cifar10", f"{archive}, every file as published")


def disk(data: Path, runs: Path, results: Path) -> Iterator[Finding]:
    """Room and rights of the three folders. Datasets that are there are only read, so that DATA_DIR may be closed."""
    for subject, folder in {"data": data, "runs": runs, "results": results}.items():
        existing = nearest(folder)
        free = shutil.disk_usage(existing).free / 1e9
        where = f"{free:.1f} GB free for {folder}"
        closed = not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK)
        if closed and subject == "data":
            yield Finding("ok", subject, f"{existing} cannot be written: what is there is read, nothing is downloaded")
        elif closed:
            yield Finding(
                "problem", subject, f"{existing} cannot be written: set {subject.upper()}_DIR to a folder that can"
            )
        elif subject == "data":
            yield Finding("ok", subject, where)
        elif free < LEAST_FREE_BYTES / 1e9:
            yield Finding("problem", subject, f"{where}: free some, or set {subject.upper()}_DIR to another disk")
        elif free < FREE_GB_WISHED:
            yield Finding("warning", subject, f"{where}; a full reproduction wishes {FREE_GB_WISHED:.0f} GB")
        else:
            yield Finding("ok", subject, where)


def cache() -> Finding:
    """Whether what can be made again, compiled kernels and checked image folders, is kept between calls."""
    wished = user_cache()
    try:
        found = cache_dir()
    except OSError as error:
        return Finding("problem", "cache", str(error))
    if found == wished:
        return Finding("ok", "cache", str(found))
    return Finding(
        "warning", "cache", f"{wished} cannot be written, {found} may not last: set XDG_CACHE_HOME elsewhere"
    )


def home() -> Finding:
    """Jupyter, W&B and matplotlib keep their settings there."""
    folder = Path(os.path.expanduser("~"))
    said = str(folder) if os.environ.get("HOME") else f"HOME is not set; {folder} is taken"
    if os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
        return Finding("ok", "home", said)
    what = "cannot be written" if os.path.isdir(folder) else "is not there"
    return Finding("warning", "home", f"{said}, which {what}: set HOME to a folder of yours")


def shared_memory() -> Iterator[Finding]:
    """The workers that decode folders of images need a page of it for each of their queues, and nothing else."""
    folder = Path("/dev/shm")
    if not folder.is_dir():  # macOS and Windows have none, and need none
        return
    free = shutil.disk_usage(folder).free
    if free >= LEAST_SHARED_BYTES:
        yield Finding("ok", "shm", f"{free / 1e6:,.0f} MB free in {folder}")
    else:
        remedy = "start the container with --shm-size=1g, or train with --set workers=0"
        yield Finding("warning", "shm", f"{free:,} bytes free in {folder}, too little for image folders: {remedy}")


def kernelspec() -> Finding:
    """Papermill runs the notebooks on the kernel "python3", which must be this very interpreter."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return Finding("problem", "kernel", "no Jupyter kernel python3: python -m ipykernel install --sys-prefix")
    program = spec.argv[0]
    place = os.path.dirname(program)  # folders, not files: interpreters of two environments may be links to one file
    if place and os.path.realpath(place) != os.path.realpath(os.path.dirname(sys.executable)):
        text = f"the kernel python3 starts {program}, not this environment: python -m ipykernel install --sys-prefix"
        return Finding("problem", "kernel", text)
    return Finding("ok", "kernel", f"python3 in {spec.resource_dir}")


def tracking() -> Finding:
    from resteutils.training.tracking import wandb_mode

    meaning = {
        "online": "online, as WANDB_MODE or a configured key says (WANDB_MODE=offline keeps runs on this disk)",
        "offline": "offline: nothing asks for a key; `wandb sync` uploads runs later",
        "shared": "shared by WANDB_MODE: the processes of a run report to one page",
        "disabled": "disabled by WANDB_MODE",
    }
    try:
        return Finding("ok", "wandb", meaning[wandb_mode()])
    except ValueError as error:
        return Finding("problem", "wandb", str(error))


def git() -> Finding:
    at = functools.partial(_prints, cwd=project_root())
    commit = at(["git", "rev-parse", "--short", "HEAD"])
    if not commit:
        return Finding("warning", "git", "no git checkout here: results will say commit unknown")
    if at(["git", "status", "--porcelain", "--", "resteutils"]):
        return Finding(
            "warning", "git", f"{commit} with changes in resteutils/ that are not committed: results will say so"
        )
    return Finding("ok", "git", commit)


def cluster() -> Finding:
    if shutil.which("sbatch"):
        return Finding("ok", "cluster", f"Slurm ({shutil.which('sbatch')}): resteutils launch --on slurm")
    return Finding("ok", "cluster", "no Slurm: resteutils launch --on local")


def _prints(command: list[str], cwd: Path | None = None) -> str:
    """What a short command prints, or ``""`` when it is absent or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, cwd=cwd)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def report(findings: Iterator[Finding], show: Callable[[str], None] = print) -> int:
    """Print each finding as it comes; return the number of problems."""
    problems = 0
    for finding in findings:
        show(str(finding))
        problems += finding.state == "problem"
    return problems
