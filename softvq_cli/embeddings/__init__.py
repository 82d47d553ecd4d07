"""The embedding files: a model's latents of a data set, written, read and checked."""

from softvq_cli.embeddings.files import Embedding, check_name, info_path, labels_path
from softvq_cli.embeddings.latents import embed
from softvq_cli.embeddings.reading import read
from softvq_cli.embeddings.writing import writer

__all__ = ["Embedding", "check_name", "embed", "info_path", "labels_path", "read", "writer"]
