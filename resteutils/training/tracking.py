"""One tracker interface. The disk is the truth; Weights & Biases is a copy beside it, and never stops a run.

The training loop knows ``Tracker`` only: ``log`` once per epoch, ``finish`` once. W&B's mode is decided before its
first ``init``: ``WANDB_MODE`` if set and not empty, online if a key is configured, else offline. There is never a
prompt.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from resteutils.system.files import write_atomic
from resteutils.system.settings import runs_dir as runs_folder

__all__ = ["NoTracker", "Tracker", "WandbTracker", "log_item", "open_tracker", "wandb_mode"]

PROJECT = "reste-reproduced"
SERVERS = {"api.wandb.ai", "api.forge.coreweave.com"}  # W&B's own, before and since 0.31
FINISH_SECONDS = 60.0  # then W&B leaves the rest on this disk; by itself it would wait for ever for a lost server


class Tracker(Protocol):
    """What the training loop sees."""

    def log(self, values: dict[str, float], epoch: int) -> None: ...

    def finish(self, summary: dict[str, Any], files: Iterable[Path] = (), failed: bool = False) -> None: ...


class NoTracker:
    """Tracks nothing."""

    def log(self, values: dict[str, float], epoch: int) -> None:
        pass

    def finish(self, summary: dict[str, Any], files: Iterable[Path] = (), failed: bool = False) -> None:
        pass


def wandb_mode() -> str:
    """ "online", "offline" or "disabled", from ``WANDB_MODE`` (an empty value counts as unset) and the configured key.

    Raises ``ValueError`` for another value of ``WANDB_MODE``.
    """
    mode = os.environ.get("WANDB_MODE", "").strip().lower()
    if mode:
        if mode not in ("online", "offline", "disabled"):
            raise ValueError(f"WANDB_MODE = {mode!r}, expected online, offline or disabled (or unset)")
        return mode
    return "online" if _key_configured() else "offline"


def _key_configured() -> bool:
    """Whether W&B would find credentials, in the places where it looks; without importing it, which takes seconds."""
    import configparser
    import netrc
    import urllib.parse

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    kept = configparser.ConfigParser(interpolation=None)
    try:
        kept.read(Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser() / "settings")
    except (configparser.Error, UnicodeDecodeError):
        kept.clear()
    if kept.get("default", "api_key", fallback=""):
        return True
    server = os.environ.get("WANDB_BASE_URL") or kept.get("default", "base_url", fallback="")
    hosts = {urllib.parse.urlsplit(server).netloc} if server else SERVERS
    for path in [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]:
        try:
            if hosts & netrc.netrc(Path(path).expanduser()).hosts.keys():
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def open_tracker(
    run_id: str, group: str, config: dict[str, Any], folder: Path, job_type: str = "train", say: Callable = print
) -> Tracker:
    """A W&B run beside the files in ``folder``, resumed while the folder is there; a :class:`NoTracker` where W&B is
    disabled or cannot start, which is said once. Where the server cannot be had, this run and the later ones of the
    process are kept offline: a minute's wait for each of them would be an outage that stops a campaign.
    """
    mode = wandb_mode()
    if mode == "disabled":
        return NoTracker()
    if "WANDB_MODE" in os.environ:  # W&B reads it too, and refuses an empty value and capitals
        given = os.environ.pop("WANDB_MODE")
        if given.strip():
            os.environ["WANDB_MODE"] = mode
    try:
        return WandbTracker(_start(run_id, group, config, folder, job_type, mode), say)
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in a tracker must not stop a training run
        reason = " ".join(str(error).split())
    if mode == "online":
        say(f"Weights & Biases could not start ({reason}); runs are kept offline, `wandb sync` uploads them later")
        os.environ["WANDB_MODE"] = "offline"
        return open_tracker(run_id, group, config, folder, job_type, say)
    say(f"Weights & Biases could not start ({reason}); the run goes on, its history is in {folder}")
    return NoTracker()


def _own_id(run_id: str, folder: Path) -> str:
    """W&B's id of a run, kept in its folder while it is the same training: W&B ignores the epochs of another one that
    comes under an id which has them already (trained again by force, elsewhere, or by somebody else).
    """
    path = folder / "wandb" / f"{run_id}.id"
    if not path.is_file():
        write_atomic(path, f"{run_id}-{secrets.token_hex(3)}\n")
    return path.read_text(encoding="utf-8").strip()


def _start(run_id: str, group: str, config: dict[str, Any], folder: Path, job_type: str, mode: str):
    os.environ["WANDB_SILENT"] = "true"  # read at the import: without it, W&B asks at a terminal for a key that lacks
    import wandb

    return wandb.init(
        project=os.environ.get("WANDB_PROJECT") or PROJECT,
        id=_own_id(run_id, folder),
        name=run_id,
        group=group,
        job_type=job_type,
        config=config,
        dir=str(folder),
        mode=mode,
        resume="allow" if mode == "online" else None,
        reinit="create_new",
        settings=wandb.Settings(
            init_timeout=60, silent=True, console="off", x_disable_stats=True, disable_git=True, disable_code=True,
            save_code=False, finish_timeout=FINISH_SECONDS, finish_timeout_raises=True,
        ),
    )  # fmt: skip


class WandbTracker:
    """Sends to one W&B run; the first failure is said, later ones are not repeated."""

    def __init__(self, run, say: Callable = print) -> None:
        self.run, self.say, self.broken = run, say, False

    def log(self, values: dict[str, float], epoch: int) -> None:
        self._try(lambda: self.run.log({**values, "epoch": epoch}, step=epoch))

    def finish(self, summary: dict[str, Any], files: Iterable[Path] = (), failed: bool = False) -> None:
        """Final summary, result files as an artifact of type "result", and the end of the run."""
        files = list(files)

        def send():
            import wandb

            self.run.summary.update(summary)
            if files:
                artifact = wandb.Artifact(f"result-{self.run.id}", type="result")
                for file in files:
                    artifact.add_file(str(file))
                self.run.log_artifact(artifact)

        self._try(send)
        self._try(lambda: self.run.finish(exit_code=int(failed)))

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - as in open_tracker
            if not self.broken:
                self.say(f"Weights & Biases failed ({error}); the run goes on, the disk has everything")
            self.broken = True


def log_item(
    item: str, profile: str, table, figure: Path | None, folder: Path, summary: dict[str, Any], runs_dir: str = ""
) -> None:
    """One summary run per table or figure: the table as a ``wandb.Table``, the picture, the folder as an artifact.

    ``table`` is a DataFrame or ``None``. W&B's own files go to ``wandb-items/`` in the runs folder.
    """
    if wandb_mode() == "disabled":
        return
    home = runs_folder(runs_dir) / "wandb-items"
    home.mkdir(parents=True, exist_ok=True)
    tracker = open_tracker(f"item-{item}-{profile}", item, {"item": item, "profile": profile}, home, "summary")
    if isinstance(tracker, NoTracker):
        return

    def send():
        import wandb

        if table is not None:
            tracker.run.log({"table": wandb.Table(dataframe=table.astype(object).where(table.notna(), None))})
        if figure is not None:
            tracker.run.log({"picture": wandb.Image(str(figure))})

    tracker._try(send)
    tracker.finish(summary, sorted(path for path in Path(folder).iterdir() if path.is_file()))
