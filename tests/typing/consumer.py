"""What a program that uses the package says of types: checked by mypy and pyright, never run."""

from typing import assert_type

import torch
from torch import nn

import resteutils as ru
from resteutils.onebit.model import PackedModel
from resteutils.runs.store import Run


class Callback:
    """As a framework's own, of which trainers take a list."""


callbacks: list[Callback] = [ru.AnnealCallback()]
estimator: ru.Estimator = ru.ReSTE(o=3.0)
network = nn.Sequential(nn.Conv2d(3, 8, 3), ru.BinaryConv2d(8, 8, 3, estimator=estimator), ru.BinaryLinear(8, 8))
binary = assert_type(ru.binarize_model(network, estimator, bits="1/32", skip=("first", "2")), nn.Sequential)
assert_type(ru.restore_model(binary), nn.Sequential)
assert_type(ru.binarize(torch.randn(3), estimator), torch.Tensor)
assert_type(ru.AnnealScheduler(binary, 10).progress, float)
ru.anneal(binary, 0.5)
assert_type(ru.create("resnet20", bits="1/1"), nn.Module)
recipe = assert_type(ru.recipe("table1/resnet20-1w1a", "smoke", seed=1, lr=0.1), ru.Recipe)
run = assert_type(ru.load_or_train(recipe), Run)
assert_type(run.model(), nn.Module)
packed = assert_type(ru.pack(run.model(), run), PackedModel)
assert_type(ru.estimating_error(binary, "code"), float)
assert_type(ru.Item("table1", profile="smoke").profile, str)
