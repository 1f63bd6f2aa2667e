"""The pictures of the paper's figures and tables. A picture gets numbers and draws them; nothing is measured here.

Every function returns a matplotlib Figure that belongs to no global state; ``results.save_item`` prints profile,
dataset, epochs and n below it.
"""

from resteutils.plots.curves import figure1, figure3
from resteutils.plots.divergence import figure6
from resteutils.plots.equilibrium import figure4
from resteutils.plots.gradients import figure2
from resteutils.plots.lemma import lemma
from resteutils.plots.tables import differences, measured_beside_published
from resteutils.plots.zones import figure5

__all__ = [
    "differences",
    "figure1",
    "figure2",
    "figure3",
    "figure4",
    "figure5",
    "figure6",
    "lemma",
    "measured_beside_published",
]
