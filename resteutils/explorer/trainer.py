"""A small training of the reader's own in a background thread, told to the page message by message."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from resteutils import kernels
from resteutils.estimators import Estimator
from resteutils.explorer.compact import COLUMNS
from resteutils.explorer.shelf import recipe_label, run_label
from resteutils.recipes import PROFILES, Recipe, recipe
from resteutils.recipes.build import open_data
from resteutils.runs.store import Run, load_or_train
from resteutils.training.stopping import Interrupted

__all__ = ["Trainer", "own_recipe"]

log = logging.getLogger(__name__)


def own_recipe(e: Estimator, bits: str, epochs: int, seed: int, profile: str = "demo") -> Recipe:
    """ResNet-20 on digits with an estimator (as at the end of its path), or its float twin.

    Raises ``ValueError`` for an unknown profile, other bits than 1/1, 1/32 and 32/32, or epochs outside 1 to 60.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile = {profile!r}, expected one of {', '.join(PROFILES)}")
    if bits not in ("1/1", "1/32", "32/32"):
        raise ValueError(f"bits = {bits!r}, expected 1/1, 1/32 or 32/32")
    if not 1 <= epochs <= 60:
        raise ValueError(f"epochs = {epochs!r}, expected 1 to 60")
    small = profile if profile in ("smoke", "demo") else "demo"
    row_name = "resnet20-fp" if bits == "32/32" else "resnet20-1w1a"
    chosen = {} if bits == "32/32" else {"bits": bits, "estimator": e}
    return recipe(f"table1/{row_name}", profile=small, seed=seed, epochs=epochs, **chosen)


class Trainer:
    """One training at a time. ``tell`` gets a dict for the page, ``done`` the run when there is one."""

    def __init__(self, tell: Callable[[dict], None], done: Callable[[Run], None], device: str, folders: dict) -> None:
        self.tell, self.done, self.device, self.folders = tell, done, device, folders
        self.thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def running(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def begin(self, chosen: Recipe) -> None:
        """Start in the background. Raises ``RuntimeError`` while a training is under way."""
        if self.running:
            raise RuntimeError("a training is under way: stop it, or wait until it is done")
        self._stop.clear()
        self.live: dict[str, Any] = {"label": f"under way: {recipe_label(chosen)}", "history": {}}
        compiles = chosen.bits != "32/32" and not kernels.settled()
        first = " The first one on a CPU compiles the 1-bit kernels: half a minute." if compiles else ""
        self._say(f"Training {recipe_label(chosen)} \u2026{first}")
        self.thread = threading.Thread(target=self._train, args=(chosen,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Ask the training to stop at its next step; everything is saved."""
        self._stop.set()

    def _say(self, text: str, running: bool = True, done: float = 0.0, live: bool = True) -> None:
        message = {"kind": "training", "text": text, "running": running, "done": done}
        self.tell(message | {"live": self.live if live else None})

    def _train(self, chosen: Recipe) -> None:
        self._steps = chosen.epochs
        try:
            open_data(chosen, self.folders.get("data_dir", ""))  # a missing dataset is said before anything is made
            run = load_or_train(
                chosen, device=self.device, wait=False, show=False, say=lambda line: None,
                stop=self._stop.is_set, on_epoch=self._epoch_done, **self.folders,
            )  # fmt: skip
        except Interrupted:
            self._say(
                "Stopped; everything is saved. The same choices and \u201cTrain this\u201d go on from here.", False
            )
        except Exception as error:
            # The thread is the outermost layer of the program: what went wrong is one line on the page.
            log.debug("training", exc_info=True)
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._say(f"Not trained: {line}", running=False, live=False)
        else:
            self.done(run)
            self._say(f"Done: {run_label(run)}. It is an ordinary run: {run.path}", False, 1.0, live=False)

    def _epoch_done(self, values: dict[str, float]) -> None:
        for key, name in COLUMNS.items():
            if name in values:
                self.live["history"].setdefault(key, []).append(values[name])
        share = values["epoch"] / self._steps
        loss, top1 = values["train_loss"], values["test_top1"]
        self._say(f"Epoch {values['epoch']}: training loss {loss:.3f}, top-1 {top1:.1f} %", True, share)
