"""The training loop: one readable class, for one process or many.

A run is a pure function of its recipe: order and augmentation of the data depend on (seed, epoch) alone, learning rate
and path on the step, and a checkpoint holds everything else. On a CPU, a run that was killed and resumed ends with
exactly the numbers of one that was not, with the same threads and compile setting (others warn). On a GPU only
``deterministic=True`` promises that.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resteutils import kernels
from resteutils.nn.layers import anneal, binary_layers
from resteutils.recipes import Recipe
from resteutils.recipes.build import build_model, build_optimizer, open_data
from resteutils.system.defaults import torch_defaults
from resteutils.training.checkpoint import compare_environment, load_latest, save_checkpoint
from resteutils.training.device import WHOLE_STEP, Execution, memory_advice, resolve_device
from resteutils.training.epoch import Sums, epoch_row, evaluate, measured_steps, write_history
from resteutils.training.gpu import batch_sizes, settle_signs
from resteutils.training.graphed import GraphedUpdate
from resteutils.training.processes import Processes, parts_of_batch, processes, without_sync
from resteutils.training.progress import Progress
from resteutils.training.schedules import learning_rate, path_progress
from resteutils.training.stopping import Interrupted, NonFinite, StopSignals, repeated, stop_signals
from resteutils.training.switches import numerics
from resteutils.training.tracking import NoTracker, Tracker

__all__ = ["train"]

STEPS_BETWEEN_CHECKS = 50  # on GPUs, where looking at a number stalls the device


@dataclass
class State:
    """What changes during training, besides model and optimizer."""

    epoch: int = 0  # finished epochs
    step: int = 0  # finished steps of the epoch under way
    sums: dict[str, float] = field(default_factory=dict)  # of the epoch under way
    history: list[dict[str, float]] = field(default_factory=list)


@torch_defaults()
def train(
    recipe: Recipe,
    folder: Path,
    device: str = "auto",
    data_dir: str = "",
    tracker: Tracker | None = None,
    stop: Callable[[], bool] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    say: Callable[[str], None] = print,
    show: bool = True,
) -> tuple[nn.Module, list[dict[str, float]], dict[str, Any]]:
    """Train (or go on training) ``recipe`` in ``folder``: the network, the history's rows, and the environment.

    ``stop`` is asked after every step; ``on_epoch`` gets each finished epoch's row of the history.

    Raises ``Interrupted`` after SIGINT, SIGTERM or ``stop``, with everything saved; ``NonFinite``, naming step,
    learning rate and estimator, before anything broken is saved, and only where it repeats itself from the last
    checkpoint (:func:`resteutils.training.stopping.repeated`); and what opening the data raises.
    """
    chosen = resolve_device(device)
    with processes(chosen) as group, numerics(recipe, chosen), stop_signals() as signals:

        def patience() -> None:
            if signals.caught:
                raise Interrupted(f"{recipe.run_id} stopped before it began; the same call begins it", signals.caught)

        data = open_data(recipe, data_dir, chosen, patience)

        def attempt() -> _Loop:
            loop = _Loop(recipe, Path(folder), chosen, data, group, tracker or NoTracker(), say, show)
            with contextlib.closing(loop.progress), memory_advice(recipe):
                loop.restore()
                while loop.state.epoch < recipe.epochs:
                    loop.train_epoch(signals, stop or (lambda: False))
                    row = loop.finish_epoch()
                    if on_epoch is not None:
                        on_epoch(row)
                    loop.leave_if_asked(signals)
            return loop

        exact = chosen.type == "cpu" or recipe.deterministic
        loop = repeated(attempt, recipe.run_id, exact, say if group.leads else lambda line: None)
        return loop.model, loop.state.history, loop.environment


class _Loop:
    """One run under way: network, optimizer, data and state, and what happens to them."""

    def __init__(self, recipe, folder, device, data, group: Processes, tracker, say, show) -> None:
        self.recipe, self.folder, self.device, self.group, self.tracker = recipe, folder, device, group, tracker
        self.say = say if group.leads else (lambda line: None)
        self.data = data
        self.steps = self.data.steps(recipe.batch_size, group.world)
        if not self.steps or recipe.batch_size < 2 * group.world:  # BatchNorm has no statistics of one image
            raise ValueError(
                f"{self.data.train_size} training images in batches of {recipe.batch_size} are too few for "
                f"{group.world} process(es); each needs at least 2 of a batch"
            )
        self.execution = Execution.resolve(recipe, device, self.data.train_size, self.say)
        if device.type == "cpu" and recipe.bits != "32/32":
            kernels.available()  # compiled now: with and without them ReSTE's slope rounds differently
        self.model = self.execution.place(build_model(recipe, self.data.num_classes))
        if recipe.sync_bn:
            self.model = group.sync_batchnorm(self.model, device)
        for _, layer in binary_layers(self.model):
            layer.packed = self.execution.packed or None  # None: in evaluation only
            layer.table_gradients = self.execution.tables
        signs = self.settle_signs()
        self.network = group.wrap(self.model, self.execution.compiled(self.model), device)
        self.optimizer = build_optimizer(recipe, self.model)
        self.graph = GraphedUpdate(self.update, self.optimizer) if self.execution.compile == WHOLE_STEP else None
        self.state, self.asked = State(), False
        self.now, self.first_bad = (torch.full((), -1, dtype=torch.int64, device=device) for _ in range(2))
        self.environment = {
            **self.execution.environment(),
            "world": group.world,
            "num_classes": self.data.num_classes,
            "files": self.data.digest,
            **signs,
        }
        self.tracker.describe(lambda: {"environment": self.environment, "dataset_digest": self.data.fingerprint()})
        self.progress = Progress(recipe.run_id, recipe.epochs * self.steps, self.say, show and group.leads)

    def settle_signs(self) -> dict[str, str]:
        """On a GPU: the algorithm that convolves signs exactly in the shapes of this run, for the environment."""
        recipe, execution = self.recipe, self.execution
        if self.device.type != "cuda" or recipe.bits != "1/1" or recipe.precision == "bf16":
            return {}
        sizes = batch_sizes(recipe, self.data.train_size, self.data.test_size, self.group.world)
        image = (recipe.in_channels, recipe.image_size, recipe.image_size)
        return {"signs": settle_signs(self.model, sizes, image, execution.layout, self.say)}

    def restore(self) -> None:
        """Go on from the folder's latest valid checkpoint, if there is one."""
        found = load_latest(self.folder, self.recipe, self.say, self.take)
        at = found["epoch"] * self.steps + found["step"] if found else -1
        low, high = self.group.largest(torch.tensor([-at, at], device=self.device)).tolist()
        if -low != high:
            raise RuntimeError(f"not all processes see the same checkpoint in {self.folder}; all must share RUNS_DIR")
        if found is None:
            how = f", {torch.get_num_threads()} thread(s)" if self.device.type == "cpu" else ""
            how += ", gradients by tables" if self.execution.tables else ""
            self.say(f"{self.recipe.run_id}: training on {self.device.type}{how}, {self.recipe.epochs} epoch(s)")
            return
        if changed := compare_environment(found["environment"], self.environment, self.folder, self.say):
            self.environment["changed"] = changed
        self.say(f"{self.recipe.run_id}: going on after epoch {self.state.epoch}, step {self.state.step}")
        self.progress.start(self.global_step)

    def take(self, found: dict[str, Any]) -> None:
        """Set network, optimizer, random numbers and state to a checkpoint's. Raises where it is of another make."""
        self.model.load_state_dict(found["model"])
        self.optimizer.load_state_dict(found["optimizer"])
        torch.set_rng_state(found["rng"])
        place, rows = (found["epoch"], found["step"]), found["history"]
        if not (0 <= place[0] <= self.recipe.epochs and 0 <= place[1] < self.steps and len(rows) == place[0]):
            raise ValueError(f"epoch {place[0]}, step {place[1]} and {len(rows)} rows of history do not fit together")
        if not all(isinstance(found[name], dict) for name in ("sums", "environment")):
            raise TypeError("sums and environment are no dictionaries")
        self.state = State(*place, found["sums"] if self.group.leads else {}, rows)

    def save(self) -> None:
        """Checkpoint everything; the leading process writes."""
        if self.group.leads:
            state = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "rng": torch.get_rng_state(),
                "environment": self.environment,
                **vars(self.state),
            }
            save_checkpoint(self.folder, state, self.recipe)
        self.group.wait()

    @property
    def global_step(self) -> int:
        return self.state.epoch * self.steps + self.state.step

    def train_epoch(self, signals: StopSignals, stop: Callable[[], bool]) -> None:
        """The rest of the epoch under way; leaves its sums in the state."""
        recipe, state, group = self.recipe, self.state, self.group
        sums, measured = Sums(state.sums, self.device), measured_steps(self.steps)
        self.model.train()
        batches = self.data.train_batches(
            recipe.batch_size, recipe.seed, state.epoch, state.step, group.rank, group.world
        )
        with contextlib.closing(batches):  # sends its workers home, whatever ends the epoch
            for images, labels in batches:
                self.train_step(images, labels, sums, state.step in measured)
                self.asked = bool(signals.caught) or stop()
                overdue = sums.age() > 60 * recipe.checkpoint_minutes
                stopping, overdue, signum = self.agree(self.asked, overdue, signals.caught)
                if (stopping or overdue) and state.step < self.steps:  # a complete epoch is evaluated, then saved
                    sums = self.keep(sums)
                    self.save()
                    if stopping:
                        self.leave(signum)
        self.keep(sums)

    def train_step(self, images: Tensor, labels: Tensor, sums: Sums, measure: bool) -> None:
        """One update, on one batch."""
        anneal(self.model, path_progress(self.recipe, self.global_step, self.steps))
        for entry in self.optimizer.param_groups:
            entry["lr"] = learning_rate(self.recipe, self.global_step, self.steps)
        self.now.fill_(self.global_step)
        if self.graph is None or measure or self.whole < self.recipe.batch_size:
            loss, correct = self.update(images, labels, sums if measure else None)
        else:
            loss, correct = self.graph(images, labels)
        if self.device.type != "cpu" and self.state.step % STEPS_BETWEEN_CHECKS == 0:
            self.raise_if_bad()
        sums.add(loss, correct, len(labels))
        self.state.step += 1
        self.progress.step()

    def keep(self, sums: Sums) -> Sums:
        """Put the sums so far into the state, and go on from there."""
        self.raise_if_bad()
        self.state.sums = sums.values(self.group)
        return Sums(self.state.sums, self.device)

    def agree(self, *values: float) -> tuple[int, ...]:
        """The largest of each value over all processes; on many GPUs looked at now and then only, and else 0."""
        if self.group.world == 1:
            return values
        if self.device.type != "cpu" and self.state.step % STEPS_BETWEEN_CHECKS:
            return tuple(0 for _ in values)
        largest = self.group.largest(torch.tensor(values, dtype=torch.float32, device=self.device))
        return tuple(int(value) for value in largest)

    def leave_if_asked(self, signals: StopSignals) -> None:
        """After an epoch, everything being saved: where the last step or the evaluation was interrupted. ``stop`` has
        what it wants after the last one; a signal is meant for more than this run, and must not get lost.
        """
        asked = self.asked and self.state.epoch < self.recipe.epochs
        stopping, signum = self.agree(asked or bool(signals.caught), signals.caught)
        if stopping:
            self.leave(signum)

    def leave(self, signum: int) -> None:
        """Every process leaves with the signal that one of them got."""
        epoch, epochs = self.state.epoch + 1, self.recipe.epochs
        where = f"in epoch {epoch} of {epochs}" if epoch <= epochs else "after its last epoch"
        raise Interrupted(
            f"{self.recipe.run_id} stopped {where}, everything is saved; the same call goes on from here", signum
        )

    @property
    def whole(self) -> int:
        """Images of the batch that is being made, of all processes together."""
        return min(self.recipe.batch_size, self.data.train_size - self.state.step * self.recipe.batch_size)

    def update(self, images: Tensor, labels: Tensor, measured: Sums | None = None) -> tuple[Tensor, Tensor]:
        """Gradients, their check, and the optimizer's step; between them the indicators, where ``measured`` takes
        them. This process's sums of loss and hits.
        """
        loss, correct = self.gradients(images, labels)
        self.watch(loss)
        if measured is not None:
            measured.add_indicators(self.model)
        self.optimizer.step()
        return loss, correct

    def gradients(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the mean loss over the whole batch, of all processes; this process's sums of loss and hits."""
        recipe, whole = self.recipe, self.whole
        self.optimizer.zero_grad(set_to_none=self.graph is None or not self.graph.recorded)
        count = parts_of_batch(whole, recipe.accumulate, self.group.world)
        parts = list(zip(images.tensor_split(count), labels.tensor_split(count), strict=True))
        loss, correct = 0.0, 0
        for index, (part, target) in enumerate(parts):
            with without_sync(self.network, index < len(parts) - 1):
                with self.execution.autocast():
                    # No compilation for an odd last batch.
                    logits = self.network(self.execution.place(part), whole == recipe.batch_size)
                logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
                total = F.cross_entropy(logits, target, reduction="sum")
                (total * (self.group.world / whole)).backward()
            loss = loss + total.detach()
            correct = correct + (logits.detach().argmax(1) == target).sum()
        return loss, correct

    def watch(self, loss: Tensor) -> None:
        """Note the first step whose loss or gradient is not finite. On a CPU that stops before the update; on a GPU
        within 50 steps, and before the next checkpoint. (Averaged gradients carry it to every process.)
        """
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        bad = ~(torch.isfinite(loss) & torch.isfinite(norm))
        self.first_bad.copy_(torch.where(bad & (self.first_bad < 0), self.now, self.first_bad))
        if self.device.type == "cpu":
            self.raise_if_bad()

    def raise_if_bad(self) -> None:
        step = int(self.first_bad)
        if step < 0:
            return
        layers, progress = binary_layers(self.model), path_progress(self.recipe, step, self.steps)
        what = (
            f"loss or gradient is not finite at step {step} (epoch {step // self.steps + 1}), "
            f"lr = {learning_rate(self.recipe, step, self.steps):.4g}, "
            f"estimator = {layers[0][1].estimator.at(progress) if layers else None}"
        )
        hint = "the last checkpoint is from before it. Try a smaller lr or a smaller o"
        raise NonFinite(f"{self.recipe.run_id}: {what}; {hint}", what, self.environment, step, self.state.history)

    def finish_epoch(self) -> dict[str, float]:
        """Evaluate, write the epoch's row to the history and checkpoint."""
        recipe, state = self.recipe, self.state
        begun = time.monotonic()
        test = evaluate(self.model, self.data, recipe, self.group, self.execution.packed_evaluation)
        row = {}
        if self.group.leads:
            last, seconds = self.global_step - 1, state.sums["seconds"]
            row = {
                "epoch": state.epoch + 1,
                "progress": path_progress(recipe, last, self.steps),
                "lr": learning_rate(recipe, last, self.steps),
                **epoch_row(self.model, state.sums, test),
                "seconds": seconds + time.monotonic() - begun,
                "images_per_second": self.data.train_size / seconds,
            }
        state.history.append(row)
        state.epoch, state.step, state.sums = state.epoch + 1, 0, {}
        if self.group.leads:
            write_history(self.folder / "history.csv", state.history)
            gradients = {name: layer.weight.grad for name, layer in binary_layers(self.model)}
            self.tracker.log(row, state.epoch, gradients)
            self.progress.epoch(state.epoch, recipe.epochs, row)
        self.save()
        return row
