"""Labels by another numbering: where classes have names, the names decide which are the same."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Sequence

import numpy as np

from softvq_cli.datasets.naming import shorten
from softvq_cli.embeddings.embedding import Embedding
from softvq_cli.errors import InputError

_SHOWN = 5
"""Names in a message."""


def numbering(first: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    """The names of ``first`` in their order, then those that only ``other`` has.

    Names are the same if Unicode's NFC of them is: a folder copied from a Mac spells ``é`` otherwise.
    """
    known = set(map(_normal, first))
    return (*first, *(name for name in other if _normal(name) not in known))


def shared(first: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    """The names of ``first`` that ``other`` has too."""
    theirs = set(map(_normal, other))
    return tuple(name for name in first if _normal(name) in theirs)


def renumber(labels: np.ndarray, names: Sequence[str], into: Sequence[str]) -> np.ndarray:
    """Labels, int (N,), that are indices into ``names`` as indices into ``into``, int64; it has all of the names."""
    place = {_normal(name): i for i, name in reversed(list(enumerate(into)))}
    return np.asarray(np.array([place[_normal(name)] for name in names], dtype=np.int64)[labels])


def align(embeddings: Sequence[Embedding]) -> tuple[list[Embedding], list[str]]:
    """Give the classes of several files one numbering, that of the first file whose classes have names.

    Files without labels or without names stay as they are.
    """
    names: tuple[str, ...] = ()
    first, aligned, notes = None, [], []
    for embedding in embeddings:
        own = embedding.class_names
        if embedding.labels is None or not own or own == names:
            aligned.append(embedding)
            continue
        if first is None:
            first, names = embedding, own
            aligned.append(embedding)
            continue
        common = shared(names, own)
        if not common:
            raise InputError(
                "{} has the classes {}, {} has {}: they have no name in common, so their labels cannot be "
                "compared; use "
                "files with the same classes, or give {labels}",
                *(embedding.path, shorten(own, _SHOWN), first.path, shorten(names, _SHOWN)),
            )
        names = numbering(names, own)
        assert embedding.labels is not None
        labels = renumber(embedding.labels, own, names)
        if not np.array_equal(labels, embedding.labels):
            notes.append(
                f"{embedding.path} numbers its classes differently from {first.path}: they are matched by name "
                f"({len(common)} in common: {shorten(common, _SHOWN)})"
            )
        aligned.append(dataclasses.replace(embedding, labels=labels, class_names=names))
    # All with the names of all, since those of a later file have been added at the end.
    return [
        dataclasses.replace(each, class_names=names) if each.labels is not None and each.class_names else each
        for each in aligned
    ], notes


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)
