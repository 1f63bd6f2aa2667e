"""How a long run shows that it is alive: a bar where somebody watches, a line now and then where nobody does."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from resteutils.system.durations import about

__all__ = ["Progress", "watched"]

SECONDS_BETWEEN_LINES = 30.0


def watched() -> str:
    """ "notebook" in a JupyterLab page, "terminal" in a terminal, "" where the output goes to a file or to papermill,
    which cannot draw a moving bar.
    """
    if "ipykernel" in sys.modules:
        return "notebook" if os.environ.get("JPY_SESSION_NAME") else ""
    return "terminal" if sys.stderr and sys.stderr.isatty() else ""  # None where it was closed


class Progress:
    """Counts the steps of one run. ``step`` moves the bar, ``epoch`` reports figures, ``close`` ends it."""

    def __init__(self, title: str, steps: int, say: Callable[[str], None] = print, show: bool = True) -> None:
        self.title, self.say, self.show = title, say, show
        self.last_line = time.monotonic()
        self.bar = None
        kind = watched() if show else ""
        if kind:
            from tqdm import notebook, std

            bar = notebook.tqdm if kind == "notebook" else std.tqdm
            self.bar = bar(total=steps, desc=title, unit="step", mininterval=0.5, leave=kind == "notebook")

    def start(self, step: int) -> None:
        """Begin at a later step, after a resumption."""
        if self.bar is not None:
            self.bar.update(step - self.bar.n)

    def step(self) -> None:
        if self.bar is not None:
            self.bar.update(1)

    def epoch(self, epoch: int, epochs: int, row: dict[str, float]) -> None:
        """Show the figures of a finished epoch: on the bar, or as a line if the last one is a while ago."""
        if self.bar is not None:
            self.bar.set_postfix(
                {"epoch": epoch, "loss": f"{row['train_loss']:.3f}", "top1": f"{row['test_top1']:.2f}"}
            )
        elif self.show and (epoch == epochs or time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES):
            self.last_line = time.monotonic()
            self.say(
                f"{self.title}: epoch {epoch}/{epochs}, training loss {row['train_loss']:.4f}, "
                f"test top-1 {row['test_top1']:.2f} %, {row['images_per_second']:.0f} images/s"
                + (f", {about(left)} left" if (left := (epochs - epoch) * row["seconds"]) >= 120 else "")
            )

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
