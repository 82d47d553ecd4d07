"""The scikit-learn estimators: the autoencoders as a transformer, K-means as a clusterer."""

from softvq_cli.estimators.embedder import AutoencoderEmbedder
from softvq_cli.estimators.many_starts import KMeansManyStarts

__all__ = ["AutoencoderEmbedder", "KMeansManyStarts"]
