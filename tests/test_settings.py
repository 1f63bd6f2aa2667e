"""Folders by argument, environment, default; files that are old or new and never half."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from resteutils import provenance as provenance_module
from resteutils import settings
from resteutils.provenance import machine, provenance
from resteutils.settings import write_atomic

FOLDERS = {
    "data": (settings.data_dir, "DATA_DIR"),
    "runs": (settings.runs_dir, "RUNS_DIR"),
    "results": (settings.results_dir, "RESULTS_DIR"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_an_argument_wins_then_the_environment_then_the_project(
    name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, variable = FOLDERS[name]
    monkeypatch.setenv(variable, str(tmp_path / "from-environment"))
    assert folder(tmp_path / "mine") == tmp_path / "mine"
    assert folder() == tmp_path / "from-environment"
    monkeypatch.setenv(variable, "")  # empty is unset
    assert folder() == root / name
    monkeypatch.delenv(variable)
    assert folder() == root / name


def test_folders_are_absolute_and_know_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert settings.runs_dir("here") == tmp_path / "here"
    assert settings.runs_dir("~/there") == tmp_path / "home" / "there"
    assert not (tmp_path / "here").exists()  # asking creates nothing


def test_the_project_is_found_from_below_and_from_elsewhere(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root / "notebooks")
    assert settings.project_root() == root
    monkeypatch.chdir(tmp_path)
    assert settings.project_root() == root  # by the package's own place
    other = tmp_path / "fork" / "deep"
    other.mkdir(parents=True)
    (tmp_path / "fork" / "notebooks").mkdir()
    (tmp_path / "fork" / "pyproject.toml").touch()
    monkeypatch.chdir(other)
    assert settings.project_root() == tmp_path / "fork"


@pytest.mark.parametrize("content", ["words: \u00e9\u4e16\n", b"\x00\xff bytes", "", b""], ids=repr)
def test_write_atomic_writes_and_makes_folders(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "a" / "b" / "file"
    assert write_atomic(path, content) == path
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    write_atomic(str(path), "second")
    assert path.read_text() == "second"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = write_atomic(tmp_path / "file", "old")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    if broken == "write":

        class Full:
            def __init__(self, handle, mode):
                os.close(handle)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                return False

            write = full

        monkeypatch.setattr(settings.os, "fdopen", Full)
    else:
        monkeypatch.setattr(settings.os, broken, full)
    with pytest.raises(
        OSError, match=f"No space left on device: {path} could not be written.* intact; make room"
    ) as caught:
        write_atomic(path, "new")
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_made_names_its_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.writable(tmp_path / "a" / "b", "RUNS_DIR").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory: .* cannot be made; set RUNS_DIR elsewhere"):
        settings.writable(tmp_path / "file" / "runs", "RUNS_DIR")
    monkeypatch.setattr(settings.os, "access", lambda folder, mode: False)  # root may write everywhere
    with pytest.raises(PermissionError, match="cannot be written; set RESULTS_DIR elsewhere"):
        settings.writable(tmp_path, "RESULTS_DIR")


def test_killed_at_any_moment_the_file_is_whole(tmp_path: Path) -> None:
    """A process that rewrites a file for ever is killed a few times; the file always parses and is whole."""
    path = tmp_path / "record.json"
    code = textwrap.dedent(f"""
        import importlib.util, json
        from itertools import count
        spec = importlib.util.spec_from_file_location("settings", {settings.__file__!r})  # without torch
        settings = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(settings)
        for n in count():
            settings.write_atomic({str(path)!r}, json.dumps([n] * 20000))
    """)
    for wait in (0.01, 0.037, 0.11):
        process = subprocess.Popen([sys.executable, "-c", code])
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(wait)
        process.kill()
        process.wait()
        numbers = json.loads(path.read_text())
        assert len(numbers) == 20000
        assert len(set(numbers)) == 1
        path.unlink()


# --- provenance ------------------------------------------------------------------------------------------------------


def test_provenance_is_plain_json_and_says_where_from(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.chdir(root)
    found = json.loads(json.dumps(provenance(), allow_nan=False))
    assert {"commit", "dirty", "versions", "machine", "created"} <= set(found)
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode == 0:
        assert found["commit"] == head.stdout.strip()
        assert isinstance(found["dirty"], bool)
    assert found["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert {"cpu", "cores", "threads", "memory_gb", "gpu"} <= set(found["machine"])
    assert found["created"].endswith("+00:00")


def test_provenance_names_no_host_and_no_home() -> None:
    import platform

    text = json.dumps(provenance())
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    if len(platform.node()) > 3:
        assert platform.node() not in text
    assert machine()["system"].split()[0] == platform.system()


def test_provenance_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(provenance_module.subprocess, "run", missing)
    found = provenance()
    assert (found["commit"], found["dirty"]) == ("unknown", None)


def test_provenance_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance_module, "project_root", lambda: tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance()["commit"] == "unknown"


def test_setting_reads_numbers_words_and_objects() -> None:
    pairs = ["lr=0.05", "batch-size=64", "sync_bn=false", "bits=1/32", 'estimator={"name": "ste"}', "compile=off"]
    assert [settings.setting(pair) for pair in pairs] == [
        ("lr", 0.05),
        ("batch_size", 64),
        ("sync_bn", False),
        ("bits", "1/32"),
        ("estimator", {"name": "ste"}),
        ("compile", "off"),
    ]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("lr=0.05", {"lr": 0.05}),
        ("accumulate=2, scale-order=before", {"accumulate": 2, "scale_order": "before"}),
        ('estimator={"name": "reste", "o": 2},lr=0.1', {"estimator": {"name": "reste", "o": 2}, "lr": 0.1}),
    ],
)
def test_settings_are_parted_by_commas_that_a_name_follows(text: str, values: dict) -> None:
    assert settings.settings(text) == values


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="'lr', expected NAME=VALUE such as lr=0.05"):
        settings.settings("lr")
