"""A self-contained HTML page for one or several runs; see :func:`write`."""

from softvq_cli.plots.page.figures import require_bokeh
from softvq_cli.plots.page.view import Codebook, Kind, Number, Table, View
from softvq_cli.plots.page.writing import write

__all__ = ["Codebook", "Kind", "Number", "Table", "View", "require_bokeh", "write"]
