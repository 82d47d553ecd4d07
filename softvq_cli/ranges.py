"""Range checks for all numbers: settings of a run, arguments of an evaluation, values in untrusted files."""

from __future__ import annotations

import math
from typing import Any

from softvq_cli.errors import UsageError, param, shown

MOST_SEED = 2**63 - 1
"""Maximum seed; the minimum is 0."""
MOST_COUNT = 10**15
"""Maximum of a count."""
MOST_JOBS = 1 << 16
"""Maximum number of threads or processes."""
KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
"""The name of each type in messages."""


def check_seed(value: Any) -> int:
    """Check that ``value`` is a seed; see :func:`check_number`."""
    return int(check_number("seed", value, low=0, high=MOST_SEED))


def check_jobs(value: Any) -> int | None:
    """Check that ``value`` is a number of jobs, or None for one per core; see :func:`check_number`."""
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
    """Check the type (int or float) and range of an argument that is not a setting of a run (UsageError).

    NumPy's numbers are accepted like Python's. An int is also a float; a bool is not a number.
    """
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        value = value.item()
    if not is_number(value) or (kind is int and type(value) is not int):
        raise UsageError("{} takes {}, not {}", param(name), KINDS[kind], shown(value))
    return in_range(name, as_float(name, value) if kind is float else value, low=low, above=above, high=high)


def in_range(
    name: str, value: Any, *, low: float | None = None, above: float | None = None, high: float | None = None
) -> Any:
    """Check that ``value`` is finite, at least ``low``, greater than ``above`` and at most ``high`` (UsageError)."""
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
    """Whether ``value`` is an int or a float, but not a bool."""
    return type(value) in (int, float)


def as_float(name: str, value: float) -> float:
    """``value`` as a float (UsageError: the integer is too large)."""
    try:
        return float(value)
    except OverflowError:
        raise UsageError("{} must be finite as a float, not {}", param(name), shown(value)) from None
