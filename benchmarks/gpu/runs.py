"""Sections on whole trainings: what repeats, what resumes, what is learnt, and what is told where a run must fail."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.gpu import material
from benchmarks.gpu.session import Session
from benchmarks.gpu.speed import made_loop, timed
from resteutils.recipes import Recipe
from resteutils.training.loop import train
from resteutils.training.stopping import Interrupted, NonFinite, StopSignals
from resteutils.training.switches import numerics

__all__ = ["failures_are_told", "trainings_repeat_resume_and_learn"]

NEAR = 0.08  # nats by which an epoch's training loss may differ from the CPU's


def trainings_repeat_resume_and_learn(session: Session) -> dict[str, Any]:
    """With ``deterministic`` the same bits twice, and after a stop; without, for information; top-1 by precision; the
    losses beside the CPU's.
    """
    small = {"train_size": 600, "test_size": 40, "epochs": 1, "warmup_epochs": 0} if session.fake else {}
    exact = material.recipe(**small)
    first, history = _trained(exact, session)
    second, _ = _trained(exact, session)
    third, _ = _trained(exact, session, stop_after=2 if session.fake else 100)
    losses = [row["train_loss"] for row in history]
    found = {
        "repeats": _same(first, second),
        "resumes": _same(first, third),
        "train_loss": losses,
        "the cpu's": session.material.golden,
        "test_top1": history[-1]["test_top1"],
    }
    if session.fake:
        return {"ok": found["repeats"] and found["resumes"], **found}
    loose = [_trained(material.recipe(deterministic=False), session)[0] for _ in range(2)]
    precise = {
        precision: _trained(material.recipe(deterministic=False, precision=precision), session)[1][-1]["test_top1"]
        for precision in ("tf32", "bf16")
    }
    golden = session.material.golden or losses
    near = all(abs(a - b) < NEAR for a, b in zip(losses, golden, strict=True))
    return {
        "ok": found["repeats"] and found["resumes"] and near,
        **found,
        "near the cpu's": near if session.material.golden else "no history of the CPU",
        "repeats without deterministic": _same(*loose),
        "test_top1 by precision": precise,
    }


def _trained(recipe: Recipe, session: Session, stop_after: int = 0) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """The weights and history of a run; stopped after so many steps, and resumed."""
    device = session.device.type
    with tempfile.TemporaryDirectory() as folder:
        if stop_after:
            steps = iter(range(1, 10**9))
            with contextlib.suppress(Interrupted):
                train(recipe, Path(folder), device, stop=lambda: next(steps) == stop_after, say=_silent, show=False)
        model, history, _ = train(recipe, Path(folder), device, say=_silent, show=False)
    return {name: value.cpu() for name, value in model.state_dict().items()}, history


def _silent(line: str) -> None:
    pass


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(value.equal(other[name]) for name, value in one.items())


def failures_are_told(session: Session) -> dict[str, Any]:
    """A loss that is not finite, within 50 steps; and each setting that a GPU does not take, before the first."""
    said = {
        "packed_forward": _refused(packed_forward=True),
        "accumulate with CUDA graphs": _refused(compile="reduce-overhead", accumulate=2),
    }
    told = all(said.values())
    if not session.fake:
        said["not finite"] = _not_finite()
        told = told and bool(said["not finite"])
    return {"ok": told, "said": said}


def _refused(**fields: Any) -> str:
    """What is said of such a run; "" where it starts."""
    try:
        timed(material.recipe(deterministic=False, batch_size=32, **fields), 1)
    except (ValueError, RuntimeError) as error:
        return str(error).splitlines()[0][:200]
    return ""


def _not_finite() -> str:
    """What is said of a run whose weights are infinite; "" where it goes on for an epoch."""
    recipe = material.recipe(deterministic=False)
    with numerics(recipe, made_loop(recipe).device):
        loop = made_loop(recipe)
        next(loop.model.parameters()).data.fill_(float("inf"))
        try:
            loop.train_epoch(StopSignals(), lambda: False)
        except NonFinite as error:
            return f"after step {loop.state.step}: {str(error)[:200]}" if loop.state.step <= 51 else ""
    return ""
