"""Write views to an HTML file that needs no other files and runs no code from a data set.

The content security policy lists the SHA-256 of the page's scripts and Bokeh's, so that a browser runs no others; it
also fetches nothing. Data are in one JSON block, and the script inserts them as text.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from softvq_cli.errors import UsageError
from softvq_cli.files import write_text
from softvq_cli.plots import style
from softvq_cli.plots.images import tiled
from softvq_cli.plots.page import figures
from softvq_cli.plots.page.view import Codebook, Table, View
from softvq_cli.version import __version__

_SCRIPTS = ("core.js", "map.js", "sections.js", "page.js")
"""Scripts in the order of their dependencies."""
_ARRAYS = (
    *("rows", "errors", "neighbours", "clusters", "centre_distances"),
    *("coordinates", "labels", "predicted", "codewords", "codeword_distances"),
)
_MOST_PIXELS = 24_000_000
"""Maximum number of pixels in one picture: a browser needs four bytes each. For more images, thumbnails are smaller."""
_LARGEST_TILE = 64
"""Maximum side of a thumbnail in pixels."""
_QUALITY = 70
"""WebP quality: a digit of MNIST takes about 140 bytes, an image of CIFAR-10 about 250."""
_EXACT = 1_000_000
"""Pictures with at most this many values are lossless; lossy compression would blur 8x8 pixels."""


def write(path: str | os.PathLike[str], views: Sequence[View], *, title: str, tables: Sequence[Table] = ()) -> None:
    """Write a page with one tab per view, and the tables of studies above them."""
    check_suffix(path)
    if not views and not tables:
        raise UsageError("there is no run to report on")
    sprites = Sprites()
    runs = [_run(view, sprites) for view in views]
    document = {
        "title": title,
        "softvq": __version__,
        "colours": style.colours(style.MOST_COLOURS),
        "sprites": sprites.pictures,
        "map": figures.map_figure(),
        "tables": [vars(table) for table in tables],
        "runs": runs,
    }
    scripts = [figures.script(), "\n".join(map(_asset, _SCRIPTS))]
    page = Template(_asset("page.html")).substitute(
        title=html.escape(_text(title)),
        policy=html.escape(_policy(scripts)),
        style=_asset("page.css"),
        data=_json(document),
        bokeh=scripts[0],
        script=scripts[1],
    )
    write_text(path, page)


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raise UsageError if the name does not end in .html or .htm."""
    if Path(path).suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"cannot write {path}: the name of a page ends in .html")


def _run(view: View, sprites: Sprites) -> dict[str, Any]:
    arrays = {name: getattr(view, name) for name in _ARRAYS}
    packed = {name: None if array is None else numbers(np.asarray(array)) for name, array in arrays.items()}
    return {
        "title": view.title,
        "numbers": list(map(vars, view.numbers)),
        "baselines": [{"title": name, "numbers": list(map(vars, of))} for name, of in view.baselines.items()],
        "facts": view.facts,
        "again": view.again,
        "notes": list(view.notes),
        "n": len(view.rows),
        "k": view.neighbours.shape[1],
        "images": sprites.add(view.images),
        "reconstructions": sprites.add(view.reconstructions),
        "code_maps": sprites.add(view.code_maps),
        "classes": list(view.class_names),
        "files": None if view.file_names is None else list(view.file_names),
        "groups": view.groups,
        "suspects": view.suspects,
        "arrays": {**packed, "distances": rounded(view.distances)},
        "codebook": None if view.codebook is None else _codebook(view.codebook, sprites),
        "curves": figures.curve_figures(view.curves),
    }


def _codebook(codebook: Codebook, sprites: Sprites) -> dict[str, Any]:
    arrays = {name: getattr(codebook, name) for name in ("numbers", "usage", "counts", "sigma")}
    lists = {name: None if array is None else array.tolist() for name, array in arrays.items()}
    return {"images": sprites.add(codebook.images), "size": codebook.size, **lists}


def _json(document: dict[str, Any]) -> str:
    """JSON for a script element: without ``<``, so that no text can close the element; ASCII only."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(scripts: Sequence[str]) -> str:
    """A content security policy that allows these scripts only and fetches nothing."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"


def _text(text: str) -> str:
    """Escape text that is not valid Unicode (a file name with other bytes) as in JSON."""
    return text.encode(errors="backslashreplace").decode()


def _asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


class Sprites:
    """The pictures of a page; those shared by several runs are stored once."""

    def __init__(self) -> None:
        self.pictures: dict[str, dict[str, Any]] = {}
        """Key → ``src`` (a data URL), and of the grid ``columns``, ``width`` and ``height`` of a tile in pixels."""
        self._known: dict[str, str] = {}

    def add(self, images: np.ndarray | None) -> str | None:
        """Add a picture of ``images``, uint8 (n, H, W, C), C 1 or 3, row by row; returns its key, or None."""
        if images is None:
            return None
        images = np.ascontiguousarray(images)
        digest = hashlib.sha256(repr(images.shape).encode() + images.tobytes()).hexdigest()
        if digest not in self._known:
            self._known[digest] = key = f"s{len(self.pictures)}"
            self.pictures[key] = _picture(images)
        return self._known[digest]


def numbers(array: np.ndarray) -> dict[str, Any]:
    """Encode numbers as text: the smallest type that represents them, and its little-endian bytes in base64."""
    if array.dtype.kind == "f":
        array = array.astype("<f4")
    else:
        fitting = ("<u1", "<u2", "<u4") if not array.size or array.min() >= 0 else ("<i4",)
        largest = int(array.max()) if array.size else 0
        array = array.astype(next(kind for kind in fitting if largest <= np.iinfo(kind).max))
    return {"type": array.dtype.name, "data": base64.b64encode(array.tobytes()).decode()}


def rounded(array: np.ndarray) -> dict[str, Any]:
    """The same in half the space for non-negative floats that are only displayed: integer multiples of ``unit``."""
    unit = float(array.max(initial=0.0)) / np.iinfo("<u2").max or 1.0
    return {**numbers(np.rint(array / unit).astype(np.int64)), "unit": unit}


def _picture(images: np.ndarray) -> dict[str, Any]:
    side = min(_LARGEST_TILE, math.isqrt(_MOST_PIXELS // len(images)))
    tiles = _shrunk(images, side)
    columns = math.ceil(math.sqrt(len(tiles)))
    grid = tiled(tiles, columns, fill=0)
    file = io.BytesIO()
    Image.fromarray(grid if grid.shape[2] == 3 else grid[:, :, 0]).save(
        file, "WEBP", quality=_QUALITY, lossless=grid.size <= _EXACT
    )
    source = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    height, width = tiles.shape[1:3]
    return {"src": source, "columns": columns, "rows": len(grid) // height, "width": width, "height": height}


def _shrunk(images: np.ndarray, side: int) -> np.ndarray:
    """Reduce images so that their larger side is at most ``side`` pixels."""
    height, width = images.shape[1:3]
    scale = side / max(height, width)
    if scale >= 1:
        return images
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pictures = images if images.shape[3] == 3 else images[..., 0]
    small = np.stack([np.asarray(Image.fromarray(picture).resize(size)) for picture in pictures])
    return small.reshape(len(images), size[1], size[0], images.shape[3])
