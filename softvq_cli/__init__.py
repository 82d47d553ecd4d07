"""softvq: soft VQ-VAE and other autoencoders with quantised bottlenecks.

The Python API. It is imported on first use, so that ``softvq --help`` does not wait for torch:

- ``load``: read a checkpoint and rebuild its model;
- ``embed``: compute a representation of images as a NumPy array;
- ``AutoencoderEmbedder``: the same models as a scikit-learn transformer;
- ``KMeansManyStarts``: the K-means of ``softvq cluster`` as a scikit-learn clusterer.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from softvq_cli.version import __version__

if TYPE_CHECKING:
    from softvq_cli.api import AutoencoderEmbedder, KMeansManyStarts, embed, load

__all__ = ["AutoencoderEmbedder", "KMeansManyStarts", "__version__", "embed", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("softvq_cli.api"), name)
    raise AttributeError(f"module 'softvq_cli' has no attribute {name!r}")
