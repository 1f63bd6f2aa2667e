"""What the panels share: a chart that redraws in place, a line for messages, a picture for readers without a kernel."""

from __future__ import annotations

import functools
import html
import logging
from collections.abc import Callable, Sequence

import ipywidgets as w

from resteutils.evidence.colours import OKABE_ITO
from resteutils.explorer.chart import STYLE, Chart

__all__ = ["ChartView", "Message", "Shown", "grid", "guarded", "legend", "offer", "panel", "row"]

log = logging.getLogger(__name__)

# Colours are the theme's; these rules only keep text readable and panels within a tablet's width.
_PANEL_STYLE = (
    ".ru-panel{max-width:1180px}.ru-panel .widget-label,.ru-panel .widget-html-content{color:var(--jp-ui-font-color1)}"
    ".ru-message{color:var(--jp-ui-font-color1);line-height:1.45}"
    f".ru-message .bad{{border-left:4px solid {OKABE_ITO['vermillion']};padding-left:8px}}"
    ".ru-message .good{padding-left:0}"
    ".ru-message .aside{color:var(--jp-ui-font-color2)}"
    ".ru-panel .widget-html,.ru-panel .widget-html-content{overflow:visible;white-space:normal}"
    ".ru-panel button:focus-visible,.ru-panel .noUi-handle:focus-visible,.ru-panel select:focus-visible,"
    f".ru-panel input:focus-visible{{outline:3px solid {OKABE_ITO['orange']};outline-offset:2px}}"
    f".ru-panel .noUi-handle{{background:{OKABE_ITO['blue']}}}"
    # The arrow of a list is a picture, black on black in the dark theme.
    '[data-jp-theme-light=false] .ru-panel .widget-dropdown>select{background-image:url("data:image/svg+xml,'
    "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 18 18'%3E%3Cpath fill='%23e6e6e6' d='M5 7l4 4 4-4 1 1-5 5"
    "-5-5z'/%3E%3C/svg%3E\")}"
    # A pressed button is told by more than its shade.
    f".ru-panel .widget-toggle-button.mod-active{{box-shadow:inset 0 -3px {OKABE_ITO['blue']}}}"
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

    def warn(self, text: str, consequence: str = "") -> None:
        """A plain text, escaped here and cut to its first line, and what follows from it."""
        line = text.strip().splitlines()[0] if text.strip() else "unknown error"
        self.value = f'<div class="bad" role="alert">{html.escape(line + consequence)}</div>'


def guarded(message: Message, consequence: str = "") -> Callable:
    """Decorator for callbacks: whatever they raise becomes one line in ``message``, never a traceback in the notebook;
    ``consequence`` ends that line.

    A slider's callback is the outermost layer of the program, so here, and only here, every ``Exception`` is caught;
    the traceback goes to the log ``resteutils.explorer.parts`` at level DEBUG.
    """

    def decorate(callback: Callable) -> Callable:
        @functools.wraps(callback)
        def safe(*arguments, **options):
            try:
                return callback(*arguments, **options)
            except Exception as error:
                log.debug("callback %s", callback.__qualname__, exc_info=True)
                message.warn(str(error) or type(error).__name__, consequence)

        return safe

    return decorate


def grid(*children: w.Widget, narrowest: int) -> w.Box:
    """Widgets of one width, as many side by side as have ``narrowest`` pixels each."""
    columns = f"repeat(auto-fill, minmax({narrowest}px, 1fr))"
    return w.Box(children, layout=w.Layout(display="grid", grid_template_columns=columns, width="100%"))


def row(*children: w.Widget, **layout) -> w.Box:
    """Widgets side by side, in a second row where the page is narrow."""
    options = {"display": "flex", "flex_flow": "row wrap", "align_items": "center", "width": "100%"} | layout
    return w.Box(children, layout=w.Layout(**options))


def offer(choice: w.Dropdown, options: Sequence[tuple[str, str]], value: str | None, callback: Callable) -> None:
    """New options for a list. Its ``callback`` hears of ``value`` once, not of each step on the way there."""
    choice.unobserve(callback, "value")
    choice.options = options
    choice.value = value
    choice.observe(callback, "value")
    callback()


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
        try:
            picture = self.picture()
        except Exception as error:
            # Without one the live panel is shown all the same, and says itself what is wrong.
            log.debug("picture", exc_info=True)
            picture = f"No picture: {' '.join(str(error).split())}"
        bundle = {"image/svg+xml" if picture.startswith("<svg") else "text/markdown": picture}
        if self.panel is not None:
            bundle |= self.panel.view()._repr_mimebundle_()
        return bundle | {"text/plain": "ReSTE explorer: a panel for JupyterLab, a picture elsewhere"}
