"""What the panels share: a chart that redraws in place, a line for messages, a picture for readers without a kernel."""

from __future__ import annotations

import functools
import html
import logging
from collections.abc import Callable, Sequence

import ipywidgets as w

from resteutils.widgets.svg import STYLE, Chart

__all__ = ["ChartView", "Message", "Shown", "guarded", "legend", "panel", "row"]

log = logging.getLogger(__name__)

# Colours are the theme's; these rules only keep text readable and panels within a tablet's width.
_PANEL_STYLE = (
    ".ru-panel{max-width:1180px}.ru-panel .widget-label,.ru-panel .widget-html-content{color:var(--jp-ui-font-color1)}"
    ".ru-message{color:var(--jp-ui-font-color1);line-height:1.45}"
    ".ru-message .bad{border-left:4px solid #D55E00;padding-left:8px}.ru-message .good{padding-left:0}"
    ".ru-panel .widget-html,.ru-panel .widget-html-content{overflow:visible;white-space:normal}"
    ".ru-panel button:focus-visible,.ru-panel .noUi-handle:focus-visible,.ru-panel select:focus-visible,"
    ".ru-panel input:focus-visible{outline:3px solid #E69F00;outline-offset:2px}"
    ".ru-panel .noUi-handle{background:#0072B2}"
    ".ru-entry{display:inline-block;margin-right:14px;white-space:nowrap}.ru-entry svg{vertical-align:middle}"
)


class ChartView(w.HTML):
    """A :class:`Chart` on the page. ``draw(marks)`` replaces its lines; ``marks`` keeps what is drawn now."""

    def __init__(self, chart: Chart, basis: str = "340px") -> None:
        super().__init__(layout=w.Layout(flex=f"1 1 {basis}", min_width="280px", max_width="580px", margin="2px"))
        self.chart, self.marks = chart, ()
        self.add_class("ru-chart")

    def draw(self, marks: Sequence) -> None:
        self.marks = tuple(marks)
        self.value = self.chart.svg(self.marks)


class Message(w.HTML):
    """One line for the reader: what is shown, or what went wrong and what to do next."""

    def __init__(self) -> None:
        super().__init__(layout=w.Layout(width="99%"))
        self.add_class("ru-message")

    def say(self, text: str) -> None:
        self.value = f'<div class="good" role="status">{text}</div>' if text else ""

    def warn(self, text: str) -> None:
        """A plain text, escaped here and cut to its first line."""
        line = html.escape(text.strip().splitlines()[0] if text.strip() else "unknown error")
        self.value = f'<div class="bad" role="alert">{line}</div>'


def guarded(message: Message) -> Callable:
    """Decorator for callbacks: whatever they raise becomes one line in ``message``, never a traceback in the notebook.

    A slider's callback is the outermost layer of the program, so here, and only here, every ``Exception`` is caught;
    the traceback goes to the log ``resteutils.widgets.parts`` at level DEBUG.
    """

    def decorate(callback: Callable) -> Callable:
        @functools.wraps(callback)
        def safe(*arguments, **options):
            try:
                return callback(*arguments, **options)
            except Exception as error:
                log.debug("callback %s", callback.__qualname__, exc_info=True)
                message.warn(str(error) or type(error).__name__)

        return safe

    return decorate


def row(*children: w.Widget, **layout) -> w.Box:
    """Widgets side by side, in a second row where the page is narrow."""
    options = {"display": "flex", "flex_flow": "row wrap", "align_items": "center", "width": "100%"} | layout
    return w.Box(children, layout=w.Layout(**options))


def legend(marks: Sequence) -> str:
    """The labelled marks with their swatches, as text that wraps: for more entries than a chart has room for."""
    return " ".join(
        f'<span class="ru-entry"><svg class="ru" width="36" height="18" aria-hidden="true">{mark.swatch(6, 9)}</svg>'
        f"{html.escape(mark.label)}</span>"
        for mark in marks
        if mark.label
    )


def panel(*children: w.Widget) -> w.VBox:
    """A column with the explorer's style sheet."""
    style = w.HTML(f"<style>{STYLE}{_PANEL_STYLE}</style>", layout=w.Layout(height="0px", margin="0px"))
    box = w.VBox([style, *children], layout=w.Layout(width="100%"))
    box.add_class("ru-panel")
    return box


class Shown:
    """What a cell shows: the live panel and, for viewers that cannot show widgets (GitHub, an exported file), a picture
    or a text. Without a panel only the latter. ``panel`` is anything with a ``view()``.
    """

    def __init__(self, picture: Callable[[], str], panel=None) -> None:
        self.picture, self.panel = picture, panel

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        picture = self.picture()
        bundle = {"image/svg+xml" if picture.startswith("<svg") else "text/markdown": picture}
        if self.panel is not None:
            bundle |= self.panel.view()._repr_mimebundle_()
        return bundle | {"text/plain": "ReSTE explorer: a panel for JupyterLab, a picture elsewhere"}
