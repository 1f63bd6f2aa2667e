"""What the tests of the explorer's panels share."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import ipywidgets as w

from resteutils.explorer.controls import Controls


def slider(controls: Controls, name: str) -> w.Widget:
    """The slider of the chosen estimator's parameter."""
    return controls._sliders[controls.choice.value][name]


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)
