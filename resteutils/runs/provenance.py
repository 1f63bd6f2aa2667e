"""Where a number came from: commit, versions, machine. Recorded with every run, table and picture."""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import platform
import subprocess
from importlib import metadata

import torch

from resteutils.system.settings import project_root

__all__ = ["machine", "provenance"]

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "pandas",
    "scikit-learn",
    "matplotlib",
    "papermill",
    "wandb",
    "safetensors",
)


def provenance() -> dict:
    """Commit (and whether the tree had uncommitted changes), versions, a hash of all that is installed, machine and
    time, as plain JSON values."""
    return {**_commit(), "versions": _versions(), "packages": _packages(), "machine": machine(), "created": now()}


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def machine() -> dict:
    """The kind of machine (never its name): processor, cores, torch's threads, memory in GB, GPU or ``""``."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "simd": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": _memory_gb(),
        "gpu": gpu,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _commit() -> dict:
    """Commit of the project's checkout; "unknown" outside one, in another project's, or without git. Not cached: a
    campaign outlives a commit."""
    if not (project_root() / "resteutils").is_dir():
        return {"commit": "unknown", "dirty": None}

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(project_root()), *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    changes = git("status", "--porcelain", "--", "resteutils")
    return {"commit": commit or "unknown", "dirty": bool(changes) if changes is not None else None}


@functools.cache
def _versions() -> dict:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


@functools.cache
def _packages() -> str:
    """SHA-256 of the sorted lines ``name==version`` of every installed distribution, as `pip freeze` would list them:
    equal hashes mean equal environments."""
    found = {f"{each.name.lower().replace('_', '-')}=={each.version}" for each in metadata.distributions() if each.name}
    return "sha256:" + hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


@functools.cache
def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux: the platform module knows what there is to know
    return platform.processor() or platform.machine()


@functools.cache
def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None
