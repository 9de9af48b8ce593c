"""How fast to learn when: up to the rate in a straight line, then down as half a cosine.

Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, without restarts.
"""

from __future__ import annotations

import math

from vla_ros.learning.recipe import Recipe

_LAST_SHARE = 0.02


def learning_rate(step: int, recipe: Recipe) -> float:
    """The rate of the step with this number, from 0."""
    if step < recipe.warmup_steps:
        return recipe.learning_rate * (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    share = 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
    return recipe.learning_rate * (_LAST_SHARE + (1.0 - _LAST_SHARE) * share)
