"""Recipes: everything that decides the result of a training run, and the rows of every table and figure.

A recipe's *identity* is a hash of the fields that change the result, the seed aside; a run is an identity and a seed.
Labels (which table asked for it) and execution (compiled or not, workers) are not part of it, so items share their
runs.
"""

from resteutils.recipes.definition import Recipe
from resteutils.recipes.profiles import PROFILES, Profile
from resteutils.recipes.rows import ITEMS, ItemSpec, default_seeds, item_recipes, known, recipe

__all__ = ["ITEMS", "PROFILES", "ItemSpec", "Profile", "Recipe", "default_seeds", "item_recipes", "known", "recipe"]
