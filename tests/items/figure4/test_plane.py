"""The plane of error and instability: which runs stand on it, and under which names."""

from __future__ import annotations

from helpers.made_up import records

from resteutils.items.figure4 import plane


def test_the_plane_takes_what_differs_in_the_estimator_alone() -> None:
    mine = records("figure4", rows="resnet20-o3,resnet20-o10,vgg-small-o3", seeds="0,1")
    others = records("table3", seeds="0,1") + records("table3", seeds="0", epochs=3)
    others += records("table1", rows="resnet20-1w32a,resnet20-fp,resnet20-bireal-1w1a", seeds="0")
    found = plane.neighbours(mine, others)
    rows = {run.recipe.row for run in found}
    assert {"ede", "reste-standardised", "reste-weights", "resnet20-o10"} <= rows
    assert not {"resnet20-1w32a", "resnet20-fp", "resnet20-bireal-1w1a", "vgg-small-o3"} & rows
    assert {run.recipe.epochs for run in found} == {10}
    labels = [plane._label(run.recipe)[0] for run in found]
    assert {"o = 3", "o = 10", "ede", "ste-gain", "reste-linear"} <= set(labels)
