"""Folders by argument, environment, default; NAME=VALUE."""

from __future__ import annotations

from pathlib import Path

import pytest

from resteutils.system import settings

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
    monkeypatch.setenv("RUNS_DIR", "~no-such-user/there")
    with pytest.raises(ValueError, match="RUNS_DIR: the home in '~no-such-user/there'"):
        settings.runs_dir()


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


# --- what is set by name ---------------------------------------------------------------------------------------------


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


def test_a_home_that_cannot_be_written_gives_a_temporary_cache_said_once(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # root may write every folder, and no file's inside
    monkeypatch.setattr(settings.tempfile, "gettempdir", lambda: str(tmp_path))
    settings._temporary_cache.cache_clear()
    folder = settings.cache_dir()
    assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
    assert settings.cache_dir() == folder
    said = capsys.readouterr().err
    assert said.count("XDG_CACHE_HOME") == 1 and str(tmp_path / "file" / "resteutils") in said and str(folder) in said

    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory")

    monkeypatch.setattr(settings.tempfile, "gettempdir", none)
    settings._temporary_cache.cache_clear()
    with pytest.raises(OSError, match="No usable temporary directory.*set XDG_CACHE_HOME elsewhere"):
        settings.cache_dir()
    settings._temporary_cache.cache_clear()


def test_a_cache_in_another_s_home_or_in_none_is_a_temporary_one(tmp_path: Path, monkeypatch) -> None:
    """`sudo -u` may keep HOME, whose inside cannot even be asked for; a container's user may have none."""
    kept = settings.Path.stat

    def closed(path, **options):
        if path.is_relative_to(tmp_path / "home"):
            raise PermissionError(13, "Permission denied", str(path))
        return kept(path, **options)

    exists = settings.os.path.exists
    monkeypatch.setattr(settings.Path, "stat", closed)
    monkeypatch.setattr(settings.os.path, "exists", lambda path: "home" not in Path(path).parts and exists(path))
    access = settings.os.access
    monkeypatch.setattr(settings.os, "access", lambda path, mode: path != tmp_path and access(path, mode))
    monkeypatch.setattr(settings, "_temporary_cache", lambda instead_of: tmp_path / "temporary")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    assert settings.cache_dir() == tmp_path / "temporary"
    monkeypatch.setenv("XDG_CACHE_HOME", "~no-such-user/cache")
    assert settings.cache_dir() == tmp_path / "temporary"
