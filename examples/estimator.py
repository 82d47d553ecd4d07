"""Latents of the digits as features of a classifier, and as a way to look at single codewords.

Usage: python examples/estimator.py [ITERATIONS]
"""

from __future__ import annotations

import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import softvq_cli as softvq


def main(iterations: int) -> None:
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    train, test, train_labels, test_labels = train_test_split(images, digits.target, random_state=0)

    embedder = softvq.AutoencoderEmbedder("soft-vq", latent_dim=16, K=32, iterations=iterations)
    classifier = make_pipeline(embedder, StandardScaler(), LogisticRegression(max_iter=2000))
    classifier.fit(train, train_labels)
    print(f"linear probe on z_e: {classifier.score(test, test_labels):.1%}")

    codes = softvq.embed(embedder.model_, test, "codes")[:, 0]
    code = np.bincount(codes).argmax()
    members = np.bincount(test_labels[codes == code], minlength=10)
    print(f"codeword {code} is used for {members.sum()} test images, {members.max()} of them digit {members.argmax()}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
