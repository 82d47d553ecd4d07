"""From views to the file: everything that the page needs is inside, and nothing of a data set can run in it.

The page's own scripts and Bokeh's are named by their SHA-256 in its content security policy, so that a browser runs
no other; it also fetches nothing. Data stand in one JSON block, and the script writes them as text.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from softvq_cli.errors import UsageError
from softvq_cli.files import write_text
from softvq_cli.plots import style
from softvq_cli.plots.page import figures
from softvq_cli.plots.page.sprites import Sprites, numbers, rounded
from softvq_cli.plots.page.view import Codebook, View
from softvq_cli.version import __version__

_SCRIPTS = ("core.js", "map.js", "sections.js", "page.js")
"""In the order of what needs what."""
_ARRAYS = (
    *("rows", "errors", "neighbours", "loneliness", "pairs", "differences", "clusters"),
    *("centre_distances", "coordinates", "labels", "predicted", "codewords", "codeword_distances"),
)


def write(path: str | os.PathLike[str], views: Sequence[View], *, title: str) -> None:
    """Write the page of ``views``, a tab each.

    Args:
        path: ends in .html or .htm.
        views: one at least.
        title: of the page.

    Raises:
        UsageError: another suffix, or no view.
        SoftVQError: the bokeh package is not installed, or the file cannot be written.
    """
    check_suffix(path)
    if not views:
        raise UsageError("there is no run to report on")
    sprites = Sprites()
    runs = [_run(view, sprites) for view in views]
    document = {
        "title": title,
        "softvq": __version__,
        "colours": style.colours(style.MOST_COLOURS),
        "sprites": sprites.pictures,
        "map": figures.map_figure(),
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
    """Refuse a name that does not end in .html or .htm (UsageError)."""
    if Path(path).suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"cannot write {path}: the name of a page ends in .html")


def _run(view: View, sprites: Sprites) -> dict[str, Any]:
    arrays = {name: getattr(view, name) for name in _ARRAYS}
    packed = {name: None if array is None else numbers(np.asarray(array)) for name, array in arrays.items()}
    return {
        "title": view.title,
        "numbers": [{"name": one.name, "value": one.value, "kind": one.kind} for one in view.numbers],
        "facts": view.facts,
        "again": view.again,
        "notes": list(view.notes),
        "n": len(view.rows),
        "k": view.neighbours.shape[1],
        "images": sprites.add(view.images),
        "reconstructions": sprites.add(view.reconstructions),
        "classes": list(view.class_names),
        "files": None if view.file_names is None else list(view.file_names),
        "arrays": {**packed, "distances": rounded(view.distances)},
        "codebook": None if view.codebook is None else _codebook(view.codebook, sprites),
        "curves": figures.curve_figures(view.curves),
    }


def _codebook(codebook: Codebook, sprites: Sprites) -> dict[str, Any]:
    return {
        "images": sprites.add(codebook.images),
        "size": codebook.size,
        "numbers": codebook.numbers.tolist(),
        "usage": codebook.usage.tolist(),
        "counts": codebook.counts.tolist(),
        "sigma": None if codebook.sigma is None else codebook.sigma.tolist(),
    }


def _json(document: dict[str, Any]) -> str:
    """JSON within a script element: no ``<`` in it, so that none can end the element; ASCII only."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(scripts: Sequence[str]) -> str:
    """Run these scripts and no other, and fetch nothing."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"


def _text(text: str) -> str:
    """What is no valid text (a file name of other bytes) as JSON would show it."""
    return text.encode(errors="backslashreplace").decode()


def _asset(name: str) -> str:
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")
