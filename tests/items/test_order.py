"""The order of scaling: exact zeros and ReLU's gate, layer by layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from resteutils.items import order


@pytest.fixture(scope="module")
def found():
    """The measurement on 16 images."""
    return order.measure(*order.random_batch(16))


def test_our_gradient_is_steady_and_the_authors_hangs_on_one_bit(found) -> None:
    whole = found[found.layer == order.ALL].set_index("order")
    assert len(found) == len(order.SEEDS) * 2 * 19
    assert whole.loc["after", "cosine"].to_numpy() == pytest.approx(1.0)
    assert whole.loc["before", "cosine"].max() < 0.95
    # The medians: in so few images a channel may be constant, and BatchNorm then blows its rounding up to signs.
    assert whole.loc["after", "changed"].median() < 1e-3
    assert whole.loc["before", "changed"].median() > 0.1
    assert (whole.loc["before", "zeros"].to_numpy() < whole.loc["after", "zeros"].to_numpy()).all()


def test_the_whole_networks_change_is_the_layers_together() -> None:
    images, labels = order.random_batch(8)
    (ours, _), (theirs, _) = (order.gradients(each, images, labels) for each in order.ORDERS)
    again, _ = order.gradients("after", images, labels)
    assert all(map(torch.equal, ours, again))
    squares = sum(float(g.square().sum()) for g in theirs) / sum(float(g.square().sum()) for g in ours)
    line = next(each for each in order._of_seed(images, labels, 0) if each["order"] == "before")
    assert line["layer"] == order.ALL and line["norm"] == pytest.approx(squares**0.5)


def test_the_verdict_can_fail(found) -> None:
    assert order.judge(found.assign(changed=found.changed.clip(upper=0.4)), "smoke").status == "contradicted"


def test_the_picture_draws_each_reading_under_its_label(found) -> None:
    moved, apart = order.figure(found).axes
    layers = found[found.layer != order.ALL]

    def drawn(axes, label: str) -> list[float]:
        return next(line for line in axes.lines if line.get_label() == label).get_ydata()

    def mean(of: str, column: str) -> list[float]:
        return layers[layers.order == of].groupby("layer")[column].mean()

    for each, label in order.ORDERS.items():
        assert np.allclose(drawn(moved, label), mean(each, "changed"))
    assert np.allclose(drawn(apart, "norm, over that of our order"), mean("before", "norm"))
    assert np.allclose(drawn(apart, "cosine to the gradient of our order"), mean("before", "cosine"))
