"""How a training stops: by itself, by a signal, by its caller; nothing broken is saved, nothing saved is lost."""

from __future__ import annotations

import itertools
import math
import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from helpers.tiny import run, tiny, untimed

from resteutils.training import loop as module
from resteutils.training.checkpoint import LAST, CheckpointError
from resteutils.training.stopping import Interrupted, NonFinite


def test_a_loss_that_is_not_finite_names_o_lr_and_step(tmp_path: Path) -> None:
    recipe = tiny(lr=1e20, warmup_epochs=0)
    with pytest.raises(
        NonFinite, match=r"step \d+ \(epoch \d\), lr = [\d.e+]+, estimator = ReSTE\(o=.*smaller lr"
    ) as caught:
        run(recipe, tmp_path)
    assert recipe.run_id in str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_input_stops_before_the_update_and_nothing_broken_is_saved(
    bad: float, tmp_path: Path, monkeypatch
) -> None:
    from resteutils.data.images import Images

    normalise = Images.normalise

    def broken(self, images):
        out = normalise(self, images)
        if len(images) == 16 and broken.calls >= 4:  # from the second epoch's second batch on, replayed or not
            out[3, 0, 2, 2] = bad
        broken.calls += len(images) == 16
        return out

    broken.calls = 0
    monkeypatch.setattr(Images, "normalise", broken)
    with pytest.raises(NonFinite, match="at step 4 "):
        run(tiny(checkpoint_minutes=0), tmp_path)
    monkeypatch.undo()
    state = torch.load(_payload(tmp_path / LAST), weights_only=True)
    assert (state["epoch"], state["step"]) == (1, 1)
    assert all(v.isfinite().all() for v in state["model"].values())
    assert untimed(run(tiny(), tmp_path / "other")[1]) == untimed(run(tiny(), tmp_path)[1])  # and it goes on from there


def glitching(monkeypatch: pytest.MonkeyPatch, bad_calls: set[int]) -> None:
    """Make the loss of some of the calls, counted from 0, not a number: the machine's fault, not the recipe's."""
    gradients, calls = module._Loop.gradients, itertools.count()

    def glitch(self, images, labels):
        loss, correct = gradients(self, images, labels)
        return (loss * math.nan if next(calls) in bad_calls else loss), correct

    monkeypatch.setattr(module._Loop, "gradients", glitch)


def test_what_does_not_repeat_itself_is_the_machine_s_fault_and_costs_no_digit(tmp_path: Path, monkeypatch) -> None:
    undisturbed = run(tiny(), tmp_path / "undisturbed")
    said: list[str] = []
    with monkeypatch.context() as patch:
        glitching(patch, {4})
        model, history, _ = run(tiny(), tmp_path / "run", say=said.append)
    assert untimed(history) == untimed(undisturbed[1])
    other = undisturbed[0].state_dict()
    assert all(value.equal(other[name]) for name, value in model.state_dict().items())
    assert [line for line in said if "this machine failed at step 4, not the recipe" in line]


def test_a_machine_that_fails_at_ever_new_steps_leaves_no_diverged_record(tmp_path: Path, monkeypatch) -> None:
    glitching(monkeypatch, {0, 2, 5, 9})  # steps 0, 1, 2 and 3: each replay comes one further
    with pytest.raises(RuntimeError, match="not finite at steps 0, 1, 2, 3, .*this machine computes wrongly") as caught:
        run(tiny(), tmp_path)
    assert not isinstance(caught.value, NonFinite)


def test_a_run_does_not_go_on_with_other_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = iter(range(100))
    with pytest.raises(Interrupted):
        run(tiny(), tmp_path, stop=lambda: next(steps) == 3)
    opened = module.open_data

    def other(*arguments):
        images = opened(*arguments)
        images.digest = "of another folder"
        return images

    monkeypatch.setattr(module, "open_data", other)
    with pytest.raises(CheckpointError, match="other images than those in DATA_DIR now"):
        run(tiny(), tmp_path)


def _payload(path: Path):
    import io

    return io.BytesIO(path.read_bytes().partition(b"\n")[2])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves_with_its_number(number: signal.Signals, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="everything is saved") as caught:
        run(tiny(), tmp_path, on_epoch=lambda row: os.kill(os.getpid(), number))
    assert caught.value.signum == number
    assert signal.getsignal(number) is before
    assert (tmp_path / LAST).exists()
    assert untimed(run(tiny(), tmp_path / "other")[1]) == untimed(run(tiny(), tmp_path)[1])


def test_one_wish_to_stop_may_arrive_twice_and_a_later_one_is_impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    from resteutils.training import stopping

    now = [100.0]
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    signals = stopping.StopSignals()
    signals.note(signal.SIGTERM, None)
    now[0] += 0.5  # torchrun passes on what Slurm has sent to every process already
    signals.note(signal.SIGTERM, None)
    assert signals.caught == signal.SIGTERM
    now[0] += 5
    with pytest.raises(KeyboardInterrupt):
        signals.note(signal.SIGINT, None)


def test_a_signal_in_the_last_evaluation_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a run of many would go on with the next as if nobody had asked it to stop."""
    real, calls = module.evaluate, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(module, "evaluate", interrupted)
    with pytest.raises(Interrupted, match="stopped after its last epoch, everything is saved") as caught:
        run(tiny(), tmp_path)
    assert caught.value.signum == signal.SIGTERM
    _, history, _ = run(tiny(), tmp_path)
    assert (len(history), len(calls)) == (2, 2)  # the next call only reads what is saved


def test_out_of_memory_says_what_takes_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self, images, labels):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    monkeypatch.setattr(module._Loop, "gradients", full)
    with pytest.raises(
        RuntimeError, match=r"batches of 16 in 1 part.*--set accumulate=2 .*Tried to allocate 2 GiB\.\)$"
    ):
        run(tiny(), tmp_path)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")],
    ids=["Python", "torch"],
)
def test_a_cpu_out_of_memory_gets_the_same_advice(error: Exception, tmp_path: Path, monkeypatch) -> None:
    def full(self, images, labels):
        raise error

    monkeypatch.setattr(module._Loop, "gradients", full)
    with pytest.raises(RuntimeError, match=r"out of memory with batches of 16 .*--set accumulate=2"):
        run(tiny(), tmp_path)


def test_training_in_a_thread_listens_to_stop_only(tmp_path: Path) -> None:
    found: list = []

    def work() -> None:
        try:
            run(tiny(), tmp_path, stop=lambda: True)
        except Interrupted as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert len(found) == 1
    assert found[0].signum == 0


def test_an_error_in_the_callback_puts_the_signals_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def fail(row):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(tiny(), tmp_path, on_epoch=fail)
    assert signal.getsignal(signal.SIGTERM) is before
