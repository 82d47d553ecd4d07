"""scikit-learn's ``random_state`` → a seed of the package."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from softvq_cli.ranges import check_seed


def seed_of(random_state: Any, seed: Any) -> int:
    """A whole number as it is, ``seed`` for None, and a draw from a ``RandomState``.

    Raises:
        UsageError: no seed.
        ValueError: neither.
    """
    if random_state is None:
        return check_seed(seed)
    if isinstance(random_state, int | np.integer):
        return check_seed(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))
