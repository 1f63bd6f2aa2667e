"""What a binary network sees: an image, the signs that enter a layer, the answer; and the float twin beside it."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import ipywidgets as w
import numpy as np
import torch
from torch import Tensor, nn

from resteutils.explorer.chart import Chart, sheet
from resteutils.explorer.marks import Bars, Picture
from resteutils.explorer.parts import ChartView, Message, guarded, offer, panel, row
from resteutils.explorer.shelf import Shelf, run_label
from resteutils.nn.binarize import sign
from resteutils.nn.layers import binary_layers
from resteutils.recipes.build import open_data
from resteutils.runs.store import Run

__all__ = ["InsidePanel", "look"]

MOST_MAPS, COLUMNS = 32, 8
ENLARGED, GAP = 6, 4  # pixels on the sheet for one of a map, and between maps


@dataclass(frozen=True)
class Sight:
    """What a network makes of an image: the maps that enter a layer (C, H, W), the probabilities of the classes."""

    maps: Tensor
    probabilities: Tensor


@torch.no_grad()
def look(model: nn.Module, layer: str, image: Tensor) -> Sight:
    """Run the network on one image (1, C, H, W) in evaluation mode and keep what enters the layer of that name."""
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0][0]))
    try:
        logits = model.eval()(image)
    finally:
        handle.remove()
    return Sight(kept[0], logits.softmax(1)[0])


def tile(maps: Tensor) -> np.ndarray:
    """Up to 32 maps (C, H, W) with values in [0, 1] as one grey image (rows, columns) of uint8, thin lines around."""
    chosen = maps[:MOST_MAPS].repeat_interleave(ENLARGED, 1).repeat_interleave(ENLARGED, 2)
    count, height, width = chosen.shape
    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), 128, np.uint8)
    for index, values in enumerate(chosen.numpy()):
        top, left = GAP + index // columns * (height + GAP), GAP + index % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = np.round(255 * values.clip(0, 1))
    return sheet


def png(pixels: np.ndarray) -> str:
    """(H, W) or (H, W, 3) uint8 as a data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def binary_tile(maps: Tensor, binarized: bool) -> np.ndarray:
    """White for +1 and black for -1 where the layer takes signs; where it does not (1/32, 32/32) each map from its own
    lowest to its highest value.
    """
    if binarized:
        return tile((sign(maps) + 1) / 2)
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return tile((maps - low) / (high - low).clamp(min=1e-12))


def picture_chart(title: str, width: int, pixels: np.ndarray | None = None) -> Chart:
    """A frame for a picture of the full width, as high as its pixels ask for."""
    margin = 6
    rows, columns = (1, 2) if pixels is None else pixels.shape[:2]
    height = round(26 + margin + (width - 2 * margin) * rows / columns)
    return Chart(title, "", "", width=width, height=height, axes=False, margin=(26, margin, margin, margin))


def answer_chart(classes: tuple[str, ...]) -> Chart:
    short = [name[:5] for name in classes]
    return Chart(
        "", "class", "probability, %", (-0.6, len(classes) - 0.4), (0.0, 100.0), width=380, height=220, x_names=short
    )


def answer(chart: Chart, who: str, probabilities: Tensor, truth: int, classes: tuple[str, ...]) -> list[Bars]:
    """Bars for the classes; the answer in one colour, the others grey. The title says whether it is right."""
    best = int(probabilities.argmax())
    verdict = "right" if best == truth else f"wrong, it is {classes[truth]}"
    chart.title = f"{who}: {classes[best]} ({100 * float(probabilities[best]):.0f} %), {verdict}"
    edges, heights = np.arange(len(classes) + 1) - 0.5, 100 * probabilities.numpy()
    chosen = np.where(np.arange(len(classes)) == best, heights, 0.0)
    return [
        Bars(edges, heights, opacity=0.5, gap=8),
        Bars(edges, chosen, colour=0 if best == truth else 1, opacity=1.0, gap=8),
    ]


class Pair:
    """A trained binary network, its float twin if there is one, and their test images."""

    def __init__(self, run: Run, twin: Run | None, data_dir: str = "") -> None:
        self.run, self.data = run, open_data(run.recipe, data_dir)
        self.model, self.twin = run.model(), twin.model() if twin else None
        self.layers = [name for name, _ in binary_layers(self.model)]
        self.images, self.labels = self.data.test_images, self.data.test_labels

    def draw(self, index: int, layer: str) -> list[tuple[Chart, list]]:
        """Image, maps and answer of the binary network, then maps and answer of the twin."""
        truth = int(self.labels[index])
        pixels = self.images[index].permute(1, 2, 0).squeeze(-1).numpy()
        classes = self.data.classes
        drawn = [(picture_chart(f"Test image {index}: {classes[truth]}", 200, pixels), [Picture(png(pixels))])]
        image = self.data.normalise(self.images[index : index + 1])
        networks = [("Binary", self.model, self.run.recipe.bits == "1/1")]
        if self.twin is not None:
            networks.append(("Float twin", self.twin, False))
        for who, model, binarized in networks:
            sight = look(model, layer, image)
            shown = min(len(sight.maps), MOST_MAPS)
            kind = "signs (white +1, black \u22121)" if binarized else "real values"
            title = f"{who}: {shown} of {len(sight.maps)} maps, {kind}"
            sheet = binary_tile(sight.maps, binarized)
            drawn.append((picture_chart(title, 400, sheet), [Picture(png(sheet))]))
            chart = answer_chart(classes)
            drawn.append((chart, answer(chart, who, sight.probabilities, truth, classes)))
        return drawn


class InsidePanel:
    """Choose a run, an image and a layer."""

    def __init__(self, shelf: Shelf, data_dir: str = "") -> None:
        self.shelf, self.data_dir, self.pair = shelf, data_dir, None
        self.message, self.twin_message = Message(), Message()
        initial = {"description_width": "initial"}
        self.choice = w.Dropdown(description="run", style=initial, layout=w.Layout(flex="1 1 420px", max_width="640px"))
        self.layer = w.Dropdown(description="enters layer", style=initial, layout=w.Layout(width="320px"))
        self.index = w.IntSlider(
            description="test image", min=0, max=1, style=initial,
            layout=w.Layout(width="100%", max_width="520px"),
        )  # fmt: skip
        empty = picture_chart("", 400)
        self.image = ChartView(empty)
        self.image.layout.flex, self.image.layout.min_width = "0 0 200px", "200px"
        self.maps, self.bars, self.twin_maps, self.twin_bars = (ChartView(empty) for _ in range(4))
        for view in (self.maps, self.bars, self.twin_maps, self.twin_bars):
            view.layout.flex = "0 0 auto"  # stand one upon the other, each as high as its chart
        safe = guarded(self.message)
        self._on_choice = safe(self._chosen)
        self.choice.observe(self._on_choice, "value")
        self.layer.observe(safe(self._draw), "value")
        self.index.observe(safe(self._draw), "value")
        shelf.observe(self._offer)
        self._offer()

    def view(self) -> w.Widget:
        """The image beside what chooses it, below it the binary network and its twin, each in a column."""
        chosen = [row(self.choice), row(self.layer), row(self.index), self.message, self.twin_message]
        head = row(self.image, w.VBox(chosen, layout=w.Layout(flex="1 1 300px")), align_items="flex-start")
        column = w.Layout(flex="1 1 300px", max_width="480px")
        networks = [
            w.VBox(views, layout=column) for views in ((self.maps, self.bars), (self.twin_maps, self.twin_bars))
        ]
        return panel(head, row(*networks, align_items="flex-start"))

    def runs(self) -> list[Run]:
        small = [run for run in self.shelf.with_models() if run.recipe.dataset in ("digits", "cifar10")]
        return [run for run in small if run.recipe.estimator is not None]

    def _offer(self) -> None:
        chosen, options = self.choice.value, [(run_label(run), run.path.name) for run in self.runs()]
        keys = [key for _, key in options]
        self.image.layout.display = None if keys else "none"
        if not keys:
            self.message.say(self.shelf.nothing_yet("trained binary network"))
            return
        target = chosen if chosen in keys else self.shelf.best(self.runs()).path.name
        offer(self.choice, options, target, self._on_choice)  # also where it stays: a twin may be here by now

    def _chosen(self, change=None) -> None:
        run = self.shelf.run(self.choice.value)
        self.pair = None
        pair = Pair(run, self.shelf.twin(run), self.data_dir)
        layer = self.layer.value if self.layer.value in pair.layers else pair.layers[min(2, len(pair.layers) - 1)]
        self.layer.options = [(f"{i} of {len(pair.layers)}: {name}", name) for i, name in enumerate(pair.layers, 1)]
        self.layer.value, self.index.max = layer, len(pair.labels) - 1
        self.pair = pair
        self._draw()

    def _draw(self, change=None) -> None:
        if self.pair is None or self.layer.value is None:
            return
        drawn = self.pair.draw(self.index.value, self.layer.value)
        views = [self.image, self.maps, self.bars, self.twin_maps, self.twin_bars]
        for view, (chart, marks) in zip(views, drawn, strict=False):
            view.chart = chart
            view.draw(marks)
        for view in views[len(drawn) :]:
            view.value = ""
        self.message.say("")
        self.twin_message.say(
            ""
            if self.pair.twin is not None
            else "No float twin of this network is here: choose W/A bits 32/32 in the training panel and press "
            "\u201cTrain this\u201d; it then appears beside this one."
        )

    @staticmethod
    def picture(run: Run | None, twin: Run | None, nothing: str, data_dir: str = "") -> str:
        if run is None:
            return nothing
        pair = Pair(run, twin, data_dir)
        image, maps, bars, *beside = pair.draw(0, pair.layers[min(2, len(pair.layers) - 1)])
        return sheet([[image, maps, *beside[:1]], [None, bars, *beside[1:]]])
