"""How the command line spells what the core calls by name: ``latent_dim`` is ``--latent-dim``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def option_name(name: str) -> str:
    """``latent_dim`` → ``--latent-dim``; ``K`` → ``--K``."""
    return "--" + name.replace("_", "-")


def option_words(values: Mapping[str, Any]) -> list[str]:
    """Options as they would be typed, one a value of a list; what is None is left out."""
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            words.append(option_name(name) if value else f"--no-{option_name(name)[2:]}")
        elif isinstance(value, list):
            words += [word for one in value for word in (option_name(name), number_text(one))]
        elif value is not None:
            words += [option_name(name), number_text(value)]
    return words


def number_text(value: Any) -> str:
    """A number in full, 1.0 as 1; text as it is."""
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)
