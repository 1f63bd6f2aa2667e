"""An estimator's path in training loops that are not ours: a plain loop, Lightning's Trainer, Hugging Face's Trainer.

Each derives the place on the path from the number of the step, so that a resumed training goes on where it was.
"""

from __future__ import annotations

import math
import sys
from numbers import Integral
from typing import TYPE_CHECKING, Any

from torch import nn

from resteutils.nn.layers import anneal

if TYPE_CHECKING:
    AnyCallback = Any  # a checker takes it for each framework's own
else:
    AnyCallback = object

__all__ = ["AnnealCallback", "AnnealScheduler", "share_of_path"]

HOSTS = {  # the module that a user of a framework has imported, and its base class of callbacks
    "lightning.pytorch": "Callback",
    "pytorch_lightning": "Callback",
    "transformers": "TrainerCallback",
}


def share_of_path(step: int, total_steps: int) -> float:
    """Share of the path at step ``step`` (from 0): 0 at the first of several, 1 at the last and beyond."""
    return min(1.0, step / (total_steps - 1)) if total_steps > 1 else 1.0


class AnnealScheduler:
    """Move a network's estimators along their paths, step by step, as torch's schedulers move learning rates.

    The first step is made at progress 0, the last of ``total_steps`` at 1:

    >>> model = nn.Sequential(nn.Linear(4, 4))
    >>> scheduler = AnnealScheduler(model, total_steps=3)
    >>> for _ in range(3):
    ...     print(scheduler.progress)  # forward, backward, optimizer.step()
    ...     scheduler.step()
    0.0
    0.5
    1.0

    Raises ``ValueError`` where ``total_steps`` is no whole number of at least 1.
    """

    def __init__(self, model: nn.Module, total_steps: int) -> None:
        if not isinstance(total_steps, Integral) or total_steps < 1:
            raise ValueError(f"total_steps = {total_steps!r}, expected a whole number of at least 1")
        self.model, self.total_steps, self.last_step = model, int(total_steps), 0
        anneal(model, self.progress)

    @property
    def progress(self) -> float:
        """Where the estimators stand, in [0, 1]."""
        return share_of_path(self.last_step, self.total_steps)

    def step(self) -> None:
        """Call it after each ``optimizer.step()``."""
        self.last_step += 1
        anneal(self.model, self.progress)

    def state_dict(self) -> dict[str, int]:
        """Return the place as plain numbers, without the network."""
        return {"total_steps": self.total_steps, "last_step": self.last_step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a place that :meth:`state_dict` returned."""
        self.total_steps, self.last_step = int(state["total_steps"]), int(state["last_step"])
        anneal(self.model, self.progress)


class AnnealCallback(AnyCallback):
    """Move a network's estimators along their paths under Lightning's Trainer or Hugging Face's.

    ``Trainer(callbacks=[ru.AnnealCallback()])``: progress is 0 in the first optimizer step and 1 in the last; batches
    that accumulate into one step share its progress. It needs no state, and a resumed training goes on where it was.

    It derives from the callbacks of those frameworks that are imported when it is made. Raises ``RuntimeError`` where
    none is, and ``ValueError`` in a training without an end.
    """

    def __new__(cls) -> AnnealCallback:
        bases = tuple(getattr(sys.modules[host], base) for host, base in HOSTS.items() if host in sys.modules)
        if not bases:
            raise RuntimeError(f"import the trainer's framework first, one of {', '.join(HOSTS)}; for a loop of your "
                               "own there is ru.AnnealScheduler")  # fmt: skip
        return object.__new__(type(cls.__name__, (cls, *bases), {"__module__": __name__}))

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return AnnealCallback, ()  # the class is made anew where it is read

    def on_train_batch_start(self, trainer: Any, pl_module: nn.Module, *batch: Any) -> None:
        """Answer Lightning before each batch."""
        total = trainer.estimated_stepping_batches
        if not math.isfinite(total) or total < 1:
            raise ValueError("a training without an end has no path: give the Trainer max_epochs or max_steps")
        anneal(pl_module, share_of_path(trainer.global_step, int(total)))

    def on_step_begin(self, args: Any, state: Any, control: Any, model: nn.Module, **others: Any) -> None:
        """Answer Hugging Face's Trainer before each optimizer step."""
        anneal(model, share_of_path(state.global_step, state.max_steps))

    def on_train_end(self, *said: Any, **others: Any) -> None:
        """Both frameworks call it, each with arguments of its own."""
