"""The models and the K-means as scikit-learn estimators."""

from softvq_cli.estimators.embedder import AutoencoderEmbedder
from softvq_cli.estimators.many_starts import KMeansManyStarts

__all__ = ["AutoencoderEmbedder", "KMeansManyStarts"]
