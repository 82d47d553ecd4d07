"""The one check of a number: settings of a run, arguments of an evaluation, and what stands in a stranger's file."""

from __future__ import annotations

import math
from typing import Any

from softvq_cli.errors import UsageError, param, shown

MOST_SEED = 2**63 - 1
"""A seed is 0 … this, everywhere."""
MOST_COUNT = 10**15
"""Of what is only counted."""
MOST_JOBS = 1 << 16
"""Threads or processes."""
KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
"""What a type is called in a message."""


def check_seed(value: Any) -> int:
    """``value`` if it is a seed; as :func:`check_number`."""
    return int(check_number("seed", value, low=0, high=MOST_SEED))


def check_jobs(value: Any) -> int | None:
    """``value`` if it is a number of jobs, or None for one a core; as :func:`check_number`."""
    return None if value is None else int(check_number("jobs", value, low=1, high=MOST_JOBS))


def check_number(
    name: str,
    value: Any,
    kind: type = int,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
) -> Any:
    """An argument that is no setting of a run, checked as one: its type, int or float, then its range (UsageError).

    NumPy's numbers are as good as Python's; an int is a float too, and a bool is no number.
    """
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if not is_number(value) or (kind is int and type(value) is not int):
        raise UsageError("{} takes {}, not {}", param(name), KINDS[kind], shown(value))
    return in_range(name, as_float(name, value) if kind is float else value, low=low, above=above, high=high)


def in_range(
    name: str, value: Any, *, low: float | None = None, above: float | None = None, high: float | None = None
) -> Any:
    """The number ``value``, if it is finite, at least ``low``, above ``above`` and at most ``high`` (UsageError)."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError("{} must be finite, not {}", param(name), value)
    if low is not None and value < low:
        raise UsageError("{} must be at least {}, not {}", param(name), low, shown(value))
    if above is not None and value <= above:
        raise UsageError("{} must be above {}, not {}", param(name), above, shown(value))
    if high is not None and value > high:
        raise UsageError("{} must be at most {}, not {}", param(name), high, shown(value))
    return value


def is_number(value: Any) -> bool:
    """An int or a float, and no bool."""
    return type(value) in (int, float)


def as_float(name: str, value: float) -> float:
    """``value`` as a float (UsageError: a whole number that is too large to be one)."""
    try:
        return float(value)
    except OverflowError:
        raise UsageError("{} must be finite as a float, not {}", param(name), shown(value)) from None
