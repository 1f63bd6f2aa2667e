"""One acceptance run: its sections in order, each with a share of the time, and what they found, as JSON after each."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks.gpu.material import Material
from resteutils.system.files import write_atomic
from resteutils.training import gpu, loop

__all__ = ["Section", "Session"]

LIMIT = 470.0  # seconds of device time for all of it
BROUGHT_BACK = 16_000_000  # bytes that what is written may take


@dataclass(frozen=True)
class Section:
    """A check: what it does, and the seconds that it takes on one H200."""

    check: Callable[[Session], dict[str, Any]]
    seconds: float

    @property
    def name(self) -> str:
        return self.check.__name__


@dataclass
class Session:
    """What every section is given. ``fake`` is a run on fakecuda, which computes nothing: smaller, and without
    verdicts on numbers.
    """

    out: Path
    material: Material
    fake: bool = False
    limit: float = LIMIT
    begun: float = field(default_factory=time.monotonic)
    found: dict[str, Any] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cuda"))

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return self.limit - (time.monotonic() - self.begun)

    def run(self, sections: tuple[Section, ...], say: Callable[[str], None] = print) -> bool:
        """Run them all; one that fails, or that time is short for, does not stop the others. Return whether all held.

        Writes ``acceptance.json`` after each.
        """
        with self.without_numbers():
            for section in sections:
                begun = time.monotonic()
                found = self._found(section)
                found["seconds"] = round(time.monotonic() - begun, 1)
                self.found[section.name] = found
                say(f"{section.name} ({found['seconds']} s): {_abridged(found)}")
                self.write()
        return all(found["ok"] for found in self.found.values())

    def _found(self, section: Section) -> dict[str, Any]:
        if not self.fake and self.left < section.seconds:
            return {"ok": False, "error": f"skipped: {self.left:.0f} s left, {section.seconds:.0f} s needed"}
        try:
            return {"ok": True, **section.check(self)}
        except Exception:  # whatever it is, it is a finding, and the next sections have theirs
            return {"ok": False, "error": traceback.format_exc(limit=-4)[-1500:]}

    def write(self) -> None:
        content = {"fake": self.fake, "images": self.material.images, "sections": self.found}
        write_atomic(self.out / "acceptance.json", json.dumps(content, indent=1, default=str) + "\n")

    def keep(self, path: Path) -> bool:
        """Whether a file that was written may stay: removes it where all would take more than is brought back."""
        taken = sum(file.stat().st_size for file in self.out.rglob("*") if file.is_file())
        if taken > BROUGHT_BACK - 1_000_000:  # the last is for acceptance.json
            path.unlink()
            return False
        return True

    def without_numbers(self) -> ExitStack:
        """On fakecuda: look at the device as a training does, and take no decision on what is seen."""
        stack = ExitStack()
        if self.fake:
            integral, evaluate = gpu.integral, loop.evaluate
            stack.enter_context(mock.patch.object(loop._Loop, "raise_if_bad", lambda run: int(run.first_bad)))
            stack.enter_context(mock.patch.object(gpu, "integral", lambda *call: integral(*call) or True))
            stack.enter_context(mock.patch.object(loop, "evaluate", lambda *what: _score(evaluate, *what)))
        return stack


def _score(evaluate: Callable, *what: Any) -> dict[str, float]:
    """Evaluate; nothing is counted where nothing computes."""
    try:
        return evaluate(*what)
    except ZeroDivisionError:
        return {"loss": 0.0, "top1": 0.0, "top5": 0.0}


def _abridged(found: dict[str, Any], most: int = 600) -> str:
    text = json.dumps(found, default=str)
    return text if len(text) <= most else text[:most] + " ..."
