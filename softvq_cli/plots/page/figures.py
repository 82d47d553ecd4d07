"""The Bokeh figures of a page: the map and the training curves.

Bokeh receives only our numbers and words. Text from a data set (labels, file names, titles) is written into the page
by its own script, as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from softvq_cli.errors import optional
from softvq_cli.plots import lines as line_plots
from softvq_cli.plots import style

_MAP_HEIGHT, _CURVE_HEIGHT = 560, 240
"""Heights in pixels."""


def require_bokeh() -> None:
    """Raise an error if Bokeh is missing, before hours of work."""
    _bokeh("plotting")


def script() -> str:
    """Bokeh's JavaScript, in the version that created the figures."""
    resources = _bokeh("resources").Resources(mode="inline", components=["bokeh"])
    return "\n".join(resources.js_raw)


def map_figure() -> Any:
    """An empty map as JSON: the source ``points`` takes x, y and colour, the source ``picked`` one point."""
    plotting, models = _bokeh("plotting"), _bokeh("models")
    points = models.ColumnDataSource({"x": [], "y": [], "colour": []}, name="points")
    picked = models.ColumnDataSource({"x": [], "y": []}, name="picked")
    tools = [
        models.PanTool(name="pan"),
        models.BoxSelectTool(name="box", persistent=False),
        models.LassoSelectTool(name="lasso", continuous=False, persistent=False),
        models.WheelZoomTool(name="wheel"),
        models.TapTool(name="tap"),
    ]
    plot = plotting.figure(
        name="map",
        tools=tools,
        toolbar_location=None,
        x_range=models.Range1d(name="x"),
        y_range=models.Range1d(name="y"),
        **_common(_MAP_HEIGHT),
    )
    plot.toolbar.active_scroll = tools[3]
    plot.axis.visible = False
    plot.grid.visible = False
    dots = plot.scatter("x", "y", size=5, color="colour", line_color=None, alpha=0.8, source=points, name="dots")
    dots.nonselection_glyph.fill_alpha = 0.12
    # A separate glyph, so that the page can enlarge selected points.
    dots.selection_glyph = models.Scatter(
        x="x", y="y", size=9, fill_color="colour", line_color=style.NEUTRAL, line_width=0.5
    )
    plot.add_tools(models.HoverTool(name="hover", renderers=[dots], tooltips=None))
    plot.scatter("x", "y", size=15, fill_color=None, line_color="#e0218a", line_width=3, source=picked, name="ring")
    return _bokeh("embed").json_item(plot)


def curve_figures(lines: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """One panel per group of measures: its title, the names and colours of its lines, and the figure as JSON."""
    return [_curves(title, series, lines) for title, series in line_plots.training_panels(lines).items()]


def _curves(title: str, series: Mapping[str, str], lines: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    plotting, models = _bokeh("plotting"), _bokeh("models")
    points = {name: [(line["step"], line[name]) for line in lines if name in line] for name in series}
    values = [value for line in points.values() for _, value in line]
    plot = plotting.figure(
        tools=[models.PanTool(dimensions="width"), models.BoxZoomTool(dimensions="width"), models.ResetTool()],
        toolbar_location=None,
        y_axis_type="log" if line_plots.is_logarithmic(title, values) else "linear",
        x_axis_label="iteration",
        **_common(_CURVE_HEIGHT),
    )
    plot.xaxis.formatter.use_scientific = False
    colours = style.line_colours(len(series))
    drawn = []
    for number, (colour, line) in enumerate(zip(colours, points.values(), strict=True)):
        x, y = zip(*line, strict=True)
        # Later lines are dashed, because two terms may be equal and both should be visible.
        source = models.ColumnDataSource({"x": x, "y": y})
        dash = [] if number == 0 else [6, 2 + 2 * number]
        drawn.append(plot.line("x", "y", source=source, line_width=2, color=colour, line_dash=dash))
        plot.scatter("x", "y", source=source, size=3, color=colour)
    plot.add_tools(
        models.HoverTool(
            renderers=drawn, mode="vline", tooltips=[("iteration", "@x"), ("value", "@y{0.0000}")], attachment="right"
        )
    )
    keys = [{"name": series[name] or title, "colour": colour} for name, colour in zip(series, colours, strict=True)]
    return {"title": title, "series": keys, "figure": _bokeh("embed").json_item(plot)}


def _common(height: int) -> dict[str, Any]:
    """Common options; the background is transparent, for the dark and light themes of the page."""
    return {
        "height": height,
        "min_width": 200,
        "sizing_mode": "stretch_width",
        "background_fill_color": None,
        "border_fill_color": None,
        "outline_line_color": None,
    }


def _bokeh(module: str) -> Any:
    return optional(f"bokeh.{module}", "report", "bokeh")
