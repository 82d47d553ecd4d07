"""Give the labels of several files one numbering; class names decide which classes are the same."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Sequence

import numpy as np

from softvq_cli.datasets.naming import shorten
from softvq_cli.embeddings.embedding import Embedding
from softvq_cli.errors import InputError

_SHOWN = 5
"""Maximum number of names in a message."""


def numbering(first: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    """The names of ``first`` in their order, then those that only ``other`` has.

    Names are compared in Unicode's NFC form, because a folder copied from a Mac encodes ``é`` differently.
    """
    known = set(map(_normal, first))
    return (*first, *(name for name in other if _normal(name) not in known))


def shared(first: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    """The names of ``first`` that ``other`` also has."""
    theirs = set(map(_normal, other))
    return tuple(name for name in first if _normal(name) in theirs)


def renumber(labels: np.ndarray, names: Sequence[str], into: Sequence[str]) -> np.ndarray:
    """Convert labels, int (N,), from indices into ``names`` to int64 indices into ``into``, which has all of them."""
    place = {_normal(name): i for i, name in reversed(list(enumerate(into)))}
    return np.asarray(np.array([place[_normal(name)] for name in names], dtype=np.int64)[labels])


def align(embeddings: Sequence[Embedding]) -> tuple[list[Embedding], list[str]]:
    """Renumber the classes of several files like those of the first file with class names.

    Files without labels or without names are unchanged.
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
    # Now all files get all names, because later files have added theirs at the end.
    return [
        dataclasses.replace(each, class_names=names) if each.labels is not None and each.class_names else each
        for each in aligned
    ], notes


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)
