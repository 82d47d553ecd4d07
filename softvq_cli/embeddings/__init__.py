"""Embedding files: the latents of a data set, written, read and checked."""

from softvq_cli.embeddings.arrays import (
    TABLE,
    check_name,
    embed,
    groups_of_parts,
    info_path,
    joined,
    labels_path,
    open_rows,
    read,
    read_stored,
    shard_path,
    write,
)
from softvq_cli.embeddings.embedding import Embedding

__all__ = [
    "TABLE",
    "Embedding",
    "check_name",
    "embed",
    "groups_of_parts",
    "info_path",
    "joined",
    "labels_path",
    "open_rows",
    "read",
    "read_stored",
    "shard_path",
    "write",
]
