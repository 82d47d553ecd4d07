"""Issues in a set of images: duplicates, images without content, doubtful labels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from softvq_cli.evaluation import issues


def photo(seed: int, side: int = 48) -> np.ndarray:
    """uint8 (side, side, 3) with shapes of many sizes and sharp edges."""
    draw = np.random.default_rng(seed)
    image = np.full((side, side, 3), 128, np.uint8)
    for _ in range(20):
        top, left = draw.integers(0, side - 4, 2)
        height, width = draw.integers(3, side // 2, 2)
        image[top : top + height, left : left + width] = draw.integers(0, 256, 3)
    return image


PHOTOS = np.stack([photo(seed) for seed in range(40)])


def test_the_hash_is_that_of_imagehash():
    imagehash = pytest.importorskip("imagehash")
    hashes = issues.dct_hashes(issues.thumbnails(PHOTOS))
    for image, found in zip(PHOTOS, hashes, strict=True):
        bits = imagehash.phash(Image.fromarray(image)).hash.reshape(-1)
        assert int(found) == int("".join("1" if bit else "0" for bit in bits), 2)


def test_equal_images_are_grouped():
    images = np.concatenate([PHOTOS[:5], PHOTOS[2:3], PHOTOS[:1], PHOTOS[2:3]])
    assert [rows.tolist() for rows in issues.equal_rows(images)] == [[0, 6], [2, 5, 7]]


@pytest.mark.parametrize(
    "change",
    [
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
        lambda image: image.resize((47, 47), Image.Resampling.BICUBIC).resize((48, 48), Image.Resampling.BICUBIC),
        lambda image: image.filter(ImageFilter.GaussianBlur(0.5)),
    ],
    ids=["brighter", "resized", "softer"],
)
def test_changed_copies_are_near_duplicates_and_other_images_are_not(change):
    copies = np.stack([np.asarray(change(Image.fromarray(image))) for image in PHOTOS[:10]])
    small = issues.thumbnails(np.concatenate([PHOTOS, copies]))
    pairs = issues.near_pairs(small, issues.dct_hashes(small), np.arange(50))
    assert {tuple(pair) for pair in pairs.tolist()} <= {(i, 40 + i) for i in range(10)}
    assert len(pairs) >= 9
    correlations = [np.corrcoef(small[i].ravel(), small[j].ravel())[0, 1] for i, j in pairs]
    assert min(correlations) >= issues.LEAST_CORRELATION - 1e-6


def test_near_pairs_are_those_of_all_pairs_whose_hashes_differ_in_three_bits():
    draw = np.random.default_rng(0)
    small = np.repeat(draw.integers(0, 256, (1, 32, 32)), 200, axis=0).astype(np.uint8)  # so that only hashes decide
    hashes = np.full(200, 0x0123456789ABCDEF, np.uint64)
    for row in range(200):
        for bit in draw.choice(64, draw.integers(0, 4), replace=False):
            hashes[row] ^= np.uint64(1) << np.uint64(bit)
    pairs = issues.near_pairs(small, hashes, np.arange(200))
    found = set(map(tuple, pairs.tolist()))
    for first in range(200):
        for second in range(first + 1, 200):
            if bin(int(hashes[first] ^ hashes[second])).count("1") <= 3:
                assert (first, second) in found


def test_pairs_make_groups():
    assert [rows.tolist() for rows in issues.groups_of(np.array([[1, 5], [5, 9], [2, 3]]))] == [[1, 5, 9], [2, 3]]
    assert issues.groups_of(np.empty((0, 2), np.int64)) == []


def test_images_without_content():
    dark = (PHOTOS[0] * 0.1).astype(np.uint8)
    bright = 255 - dark
    blurred = np.asarray(Image.fromarray(PHOTOS[1]).filter(ImageFilter.GaussianBlur(6)))
    images = np.stack([PHOTOS[2], np.full_like(dark, 7), dark, bright, blurred])
    content = issues.content(images, issues.thumbnails(images))
    assert {kind: rows.tolist() for kind, (rows, _) in content.items()} == {
        "constant": [1],
        "dark": [2],
        "bright": [3],
        "blurred": [4],
    }
    assert all(((score >= 0) & (score <= 1)).all() for _, score in content.values())


def test_an_image_that_was_enlarged_is_not_blurred_by_that():
    large = [np.asarray(Image.fromarray(image).resize((160, 160), Image.Resampling.BICUBIC)) for image in PHOTOS[:6]]
    images = np.stack([*large, np.asarray(Image.fromarray(large[0]).filter(ImageFilter.GaussianBlur(20)))])
    for sides in (np.full(7, 48), None):
        rows, _ = issues.content(images, issues.thumbnails(images), sides)["blurred"]
        assert (sides is None and len(rows) > 4) or rows.tolist() == [6]


def test_far_rows_are_outliers_the_farthest_first():
    z = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    z[7] += 30
    z[100] += 60
    rows, score = issues.outliers(z)
    assert rows[:2].tolist() == [100, 7]
    assert len(rows) <= 3  # of 300 normal rows hardly any is far
    assert 0 < score[0] < score[1] < 1


def test_doubted_labels_are_those_of_the_formula():
    draw = np.random.default_rng(1)
    probabilities = draw.dirichlet([0.5, 0.5, 0.5], 200)
    labels = draw.integers(0, 3, 200)
    rows, counted, scores = issues.doubted_labels(probabilities, labels)
    thresholds = [probabilities[labels == j, j].mean() for j in range(3)]
    expected = {}
    for row in range(200):
        passing = [j for j in range(3) if probabilities[row, j] >= thresholds[j]]
        best = max(passing, key=lambda j: probabilities[row, j], default=None)
        if best is not None and best != labels[row]:
            expected[row] = best
    assert dict(zip(rows.tolist(), counted.tolist(), strict=True)) == expected
    np.testing.assert_array_equal(scores, np.sort(probabilities[rows, labels[rows]]))


def test_wrong_labels_among_separable_rows_are_doubted():
    draw = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], 60)
    z = (np.eye(3)[labels] * 6 + draw.normal(size=(180, 3))).astype(np.float32)
    wrong = [3, 70, 150]
    labels[wrong] = (labels[wrong] + 1) % 3
    rows, _, _ = issues.doubted_labels(issues.cross_validated(z, labels), labels)
    assert set(rows.tolist()) <= set(wrong)
    assert len(rows) >= 2  # a row is counted where its probability is at least the mean of its class
