"""The embedding files: a model's latents of a data set, written, read and checked."""

from softvq_cli.embeddings.files import Embedding, check_name, embed, info_path, labels_path, read, writer

__all__ = ["Embedding", "check_name", "embed", "info_path", "labels_path", "read", "writer"]
