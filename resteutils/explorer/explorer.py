"""The explorer's four panels over one set of sliders."""

from __future__ import annotations

from functools import cached_property

from resteutils.explorer.controls import Controls
from resteutils.explorer.curve import CurvePanel
from resteutils.explorer.inside import InsidePanel
from resteutils.explorer.parts import Shown
from resteutils.explorer.shelf import Shelf
from resteutils.explorer.tradeoff import TradeoffPanel
from resteutils.explorer.training import TrainingPanel
from resteutils.recipes import PROFILES, recipe
from resteutils.runs.store import load_or_train

__all__ = ["Explorer"]

STATIC_ROWS = ("resnet20-1w1a", "resnet20-1w1a-ste", "resnet20-fp")
QUICK = ("smoke", "demo")  # profiles small enough to train for a picture


class Explorer:
    """Each method shows one panel; all follow the same sliders.

    Arguments:
        profile: size of the trainings that it starts: "smoke" or "demo" (the larger profiles train as "demo").
        interactive: ``False`` shows pictures instead of panels, for a notebook that runs without a reader; where no run
            is finished it first trains three small ones ("smoke" and "demo" only).
        runs_dir, results_dir, data_dir: folders; empty means the settings of :mod:`resteutils.system.settings`.
        device: "auto", "cpu", "cuda" or "cuda:N", for trainings.

    Raises ``ValueError`` for an unknown profile.
    """

    def __init__(
        self,
        profile: str = "demo",
        interactive: bool = True,
        runs_dir: str = "",
        results_dir: str = "",
        data_dir: str = "",
        device: str = "auto",
    ) -> None:
        if profile not in PROFILES:
            raise ValueError(f"profile = {profile!r}, expected one of {', '.join(PROFILES)}")
        self.profile, self.interactive, self.device = profile, interactive, device
        self.folders = {"runs_dir": runs_dir, "results_dir": results_dir, "data_dir": data_dir}
        self.controls, self.shelf = Controls(), Shelf(runs_dir, results_dir)

    # Panels are made once: a cell that is run again shows the same one, with the training that it has under way.

    @cached_property
    def curve_panel(self) -> CurvePanel:
        return CurvePanel(self.controls)

    @cached_property
    def tradeoff_panel(self) -> TradeoffPanel:
        return TradeoffPanel(self.controls, self.shelf, self.folders["data_dir"])

    @cached_property
    def training_panel(self) -> TrainingPanel:
        return TrainingPanel(self.controls, self.shelf, self.profile, self.device, **self.folders)

    @cached_property
    def inside_panel(self) -> InsidePanel:
        return InsidePanel(self.shelf, self.folders["data_dir"])

    def curve(self) -> Shown:
        """f(z) over sign and identity, and f'(z)."""
        return Shown(CurvePanel.picture, self.curve_panel if self.interactive else None)

    def tradeoff(self) -> Shown:
        """Estimating error against gradient instability, on a sample of the reader's choice."""
        return Shown(TradeoffPanel.picture, self.tradeoff_panel if self.interactive else None)

    def training(self) -> Shown:
        """Finished runs over their epochs, and "train this"."""
        return Shown(self._training_picture, self.training_panel if self.interactive else None)

    def inside(self) -> Shown:
        """One image through a trained network and through its float twin."""
        return Shown(self._inside_picture, self.inside_panel if self.interactive else None)

    def _training_picture(self) -> str:
        self._train_for_pictures()
        mine = [run for run in self.shelf.runs.values() if run.recipe.profile == self.profile]
        chosen = [run for run in mine if run.recipe.row in STATIC_ROWS and run.recipe.model == "resnet20"]
        return TrainingPanel.picture((chosen or list(self.shelf.runs.values()))[:3], self.shelf.nothing_yet())

    def _inside_picture(self) -> str:
        self._train_for_pictures()
        usable = [run for run in self.shelf.with_models() if run.recipe.bits == "1/1"]
        usable = [run for run in usable if run.recipe.dataset in ("digits", "cifar10")]
        run = self.shelf.best(usable)
        twin = self.shelf.twin(run) if run else None
        return InsidePanel.picture(
            run, twin, self.shelf.nothing_yet("trained binary network"), self.folders["data_dir"]
        )

    def _train_for_pictures(self) -> None:
        """A notebook that runs without a reader makes its own runs, like every other notebook here."""
        if self.interactive or self.shelf.with_models() or self.profile not in QUICK:
            return
        for name in STATIC_ROWS:
            load_or_train(recipe(f"table1/{name}", profile=self.profile), device=self.device, **self.folders)
        self.shelf.refresh()
