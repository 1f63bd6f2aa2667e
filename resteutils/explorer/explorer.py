"""The explorer in a notebook: the page's module, with a kernel for what needs Python."""

from __future__ import annotations

import html
import logging
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from resteutils.data.sources import DATASETS
from resteutils.estimators import Estimator, estimator
from resteutils.explorer.compact import compact_run, dumps
from resteutils.explorer.page import document, page_data, script, style
from resteutils.explorer.shelf import Shelf
from resteutils.explorer.sights import sights
from resteutils.explorer.trainer import Trainer, own_recipe
from resteutils.recipes import PROFILES
from resteutils.runs.store import Run
from resteutils.system.settings import data_dir, refuse_unknown

__all__ = ["Explorer"]

log = logging.getLogger(__name__)
MOST_OWN = 40  # runs of the reader's own that the page is told
# Below the widget. Its style sheet hides it: whoever reads it sees no widget.
_AGAIN = """<p class="rx-again">No sliders above? This page was loaded again and its kernel is another one: choose
<em>Run &gt; Run Selected Cell</em> (Shift+Enter) in this cell.</p>"""


class Explorer(anywidget.AnyWidget):
    """Curve, trade-off, training and a look inside, under one set of controls.

    The page draws everything itself; the kernel only trains and looks into networks on request.

    Arguments:
        profile: size of the trainings that it starts: "smoke" or "demo" (the larger profiles train as "demo").
        interactive: ``False`` shows the page without a kernel, for a notebook that runs without a reader.
        runs_dir, results_dir, data_dir: folders; empty means the settings of :mod:`resteutils.system.settings`.
        device: "auto", "cpu", "cuda" or "cuda:N", for trainings.

    ``link`` is the state of the page as the text of its link, ``chosen`` the estimator of the sliders.
    Raises ``ValueError`` for an unknown profile or parameter.
    """

    data = traitlets.Unicode().tag(sync=True)
    link = traitlets.Unicode().tag(sync=True)
    estimator = traitlets.Dict({"name": "reste"}).tag(sync=True)
    own_runs = traitlets.List().tag(sync=True)
    pairs = traitlets.List().tag(sync=True)
    epochs = traitlets.Int(6).tag(sync=True)

    def __init__(
        self,
        profile: str = "demo",
        interactive: bool = True,
        runs_dir: str = "",
        results_dir: str = "",
        data_dir: str = "",
        device: str = "auto",
        **unknown: Any,
    ) -> None:
        refuse_unknown(unknown, "profile interactive runs_dir results_dir data_dir device".split())
        if profile not in PROFILES:
            raise ValueError(f"profile = {profile!r}, expected one of {', '.join(PROFILES)}")
        self.profile, self.interactive = profile, interactive
        self.folders = {"runs_dir": runs_dir, "results_dir": results_dir, "data_dir": data_dir}
        self.shelf = Shelf(runs_dir, results_dir)
        self.trainer = Trainer(self.send, self._trained, device, self.folders)
        super().__init__(data=dumps(page_data(self.shelf)), epochs=2 if profile == "smoke" else 6)
        self._offer()
        self.on_msg(self._asked)

    _esm = script()
    _css = style()

    @property
    def chosen(self) -> Estimator:
        """The estimator of the sliders, as at the end of its path."""
        return estimator(**self.estimator)

    def _offer(self) -> None:
        self.own_runs = [compact_run(run, own=True) for run in self.shelf.own()[:MOST_OWN]]
        self.pairs = [list(pair) for pair in self.shelf.pairs()]

    def _asked(self, _: Any, message: dict, buffers: Any) -> None:
        """What the page asks for; whatever goes wrong is one line there, never a traceback in the notebook."""
        kind = message.get("kind")
        self.send({"kind": "heard"})
        try:
            if kind == "train":
                wanted = (message["bits"], int(message["epochs"]), int(message["seed"]))
                self.trainer.begin(own_recipe(self.chosen, *wanted, self.profile))
            elif kind == "stop":
                self.trainer.stop()
            elif kind == "inside":
                self.send({"kind": "inside", **self._look(message["run"], message.get("download", False))})
        except Exception as error:
            # A message's handler is the outermost layer of the program; the traceback goes to the log.
            log.debug("message %s", kind, exc_info=True)
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            about = {"kind": "inside"} if kind == "inside" else {"kind": "training", "live": None, "done": 0.0}
            self.send(about | {"text": line, "running": self.trainer.running})

    def _look(self, key: str, download: bool) -> dict[str, Any]:
        """What the page shows of a run; the committed pair for no key. Nothing is downloaded that was not asked for."""
        if not key:
            return {"sights": None}
        if key not in self.shelf.runs:
            raise KeyError(f"the run {key} is no longer here; run the cell again")
        run, folder = self.shelf.runs[key], self.folders["data_dir"]
        dataset = DATASETS[run.recipe.dataset]
        if not download and not dataset.here(folder):
            return {"text": f"{dataset.label} is not in {data_dir(folder)}; it can be downloaded.", "download": True}
        return {"sights": sights(run, self.shelf.twin(run), folder)}

    def _trained(self, run: Run) -> None:
        self.shelf.read()
        self._offer()

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        bundle = self._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        display(data, metadata=metadata, raw=True)
        if self.interactive:
            display(HTML(_AGAIN))

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The widget and, for viewers that cannot show one, the page itself in a frame."""
        frame = _frame(document(self.folders["results_dir"], head=""))
        if not self.interactive:
            return {"text/html": frame, "text/plain": "ReSTE explorer"}
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**(data or {}), "text/html": frame, "text/plain": "ReSTE explorer"}, metadata

    def page(self, path: str | Path) -> Path:
        """Write the explorer as one HTML file that needs no kernel, and return its path."""
        target = Path(path)
        target.write_text(document(self.folders["results_dir"], head="<h1>ReSTE explorer</h1>"), encoding="utf-8")
        return target


def _frame(page: str) -> str:
    look = "width:100%;height:1150px;border:0"
    return f'<iframe title="ReSTE explorer" style="{look}" srcdoc="{html.escape(page, quote=True)}"></iframe>'
