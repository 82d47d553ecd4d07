"""Results as tables for people; fractions are shown in per cent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from softvq_cli.errors import one_line
from softvq_cli.words import BOTTLENECKS

if TYPE_CHECKING:
    from softvq_cli.config import RunConfig
    from softvq_cli.results.pipeline import RunResult


def rows(title: str, entries: Iterable[tuple[str, object]]) -> Group:
    """Two columns: what it is, and its value."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, show_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in entries:
        table.add_row(Text(one_line(name, None)), Text(one_line(str(value), None)))
    return _titled(one_line(title, None), table)


def _titled(title: str, table: Table) -> Group:
    """The title on a line of its own, which may be longer than the table is wide."""
    return Group(Text(title, style="bold"), table, Text())


def per_cent(fraction: float | None) -> str:
    """0.7764 → 77.64 %."""
    return "–" if fraction is None else f"{100 * fraction:.2f} %"


def training_table(config: RunConfig, metrics: Mapping[str, float]) -> Group:
    """What a run was and where its losses ended."""
    shown = [(name.replace("_", " "), f"{value:.4g}") for name, value in metrics.items() if name != "step"]
    label = BOTTLENECKS[config.model.bottleneck].label
    return rows(f"{label} on {config.data.data}, {config.train.iterations} iterations", shown)


def clustering_tables(found: Any) -> Group:
    """The K-means of one embedding file, and of its map."""
    tables = [clustering_table(found.clustering)]
    if found.on_map is not None:
        tables.append(map_table(found.on_map))
    return Group(*tables)


def clustering_table(found: Any) -> Group:
    """One K-means."""
    entries: list[tuple[str, object]]
    if found.accuracy is not None:
        entries = [("accuracy", per_cent(found.accuracy)), ("NMI", f"{found.nmi:.4f}"), ("ARI", f"{found.ari:.4f}")]
    else:
        entries = [("silhouette", "–" if found.silhouette is None else f"{found.silhouette:.4f}")]
    entries.append(("inertia", f"{found.inertia:.6g}"))
    how = {
        "kmeans": f"best of {found.n_init} starts",
        "gmm": "mixture of Gaussians",
        "agglomerative": "merged by Ward's criterion",
    }
    return rows(f"{found.clusters} clusters of {found.n} rows, {how[found.method]}", entries)


def map_table(found: Any) -> Group:
    """The clusters of a t-SNE map and what it keeps."""
    clustering, quality = found.clustering, found.quality
    entries: list[tuple[str, object]] = []
    if clustering.accuracy is not None:
        entries = [("accuracy", per_cent(clustering.accuracy)), ("NMI", f"{clustering.nmi:.4f}")]
    entries += [("trustworthiness", f"{quality.trustworthiness:.4f}")]
    entries += [(f"recall of the {quality.k} nearest", f"{quality.knn_recall:.4f}")]
    extra = "" if found.exaggeration == 1 else f", exaggeration {found.exaggeration:g}"
    return rows(f"the same on a t-SNE map, perplexity {found.perplexity:g}{extra}", entries)


def probing_tables(found: Any) -> Group:
    """All probes of one model."""
    tables = [probe_table(found.softmax)]
    if found.neighbours is not None:
        tables.append(neighbours_table(found.neighbours))
    if found.few_labels:
        tables.append(few_labels_table(found.few_labels))
    return Group(*tables)


def neighbours_table(found: Any) -> Group:
    """The nearest-neighbour probe."""
    entries = [
        ("accuracy", per_cent(found.accuracy)),
        ("accuracy on the training rows", per_cent(found.train_accuracy)),
    ]
    return rows(f"{found.method['neighbours']} nearest neighbours", entries)


def few_labels_table(found: Sequence[Any]) -> Group:
    """The softmax probe on few labels, a row a number of labels."""
    entries = []
    for one in found:
        spread = "" if one.accuracy.std is None else f" ± {per_cent(one.accuracy.std)}"
        entries.append((f"{one.labels_per_class} labels a class", per_cent(one.accuracy.mean) + spread))
    return rows(f"softmax probe on few labels, mean of {found[0].accuracy.n} draws", entries)


def probe_table(found: Any) -> Group:
    """The softmax probe, and where it is weak."""
    entries: list[tuple[str, object]] = [
        ("accuracy", per_cent(found.accuracy)),
        ("accuracy on the training rows", per_cent(found.train_accuracy)),
    ]
    weakest = sorted(found.per_class.items(), key=lambda item: item[1])[:3]
    entries += [(f"class {name}, among the weakest", per_cent(value)) for name, value in weakest]
    return rows(f"softmax probe, {found.n_train} training and {found.n_test} test rows", entries)


def data_table(data_dir: str, states: Sequence[Any]) -> Group:
    """The named data sets: what they are and in which state."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("name", "what it is", "state"):
        table.add_column(name)
    table.add_column("size", justify="right")
    for state in states:
        table.add_row(state.name, state.description, _state(state), f"{state.size / 1e6:.1f} MB" if state.size else "–")
    return _titled(f"data sets in {data_dir}", table)


def overview_tables(found: Any) -> Group:
    """What was read of a data set: counts by split and class, and what is odd."""
    height, width, channels = found.image_shape
    drawn = " (drawn: the data have no test split)" if found.drawn else ""
    entries: list[tuple[str, object]] = [
        ("images", f"{found.counts['train']} train, {found.counts['test']} test{drawn}"),
        ("size", f"{width}x{height}, {'grey' if channels == 1 else 'colour'}"),
        ("classes", len(found.classes) or "none: there are no labels"),
        ("pixels", f"{found.pixels[0]} to {found.pixels[1]} of 255"),
        ("of the values", found.pixel_range.replace(",", " to ") if found.pixel_range else "as they are, bytes"),
        ("equal to another image", found.duplicates),
        ("of the test split, also in train", found.shared),
        ("of one value all over", found.constant),
    ]
    if not found.classes:
        return rows(found.name, entries)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("class", overflow="fold")
    for name in ("train", "test"):
        table.add_column(name, justify="right")
    for name, counts in list(found.classes.items())[:_CLASSES]:
        table.add_row(Text(one_line(name, 60)), str(counts.get("train", 0)), str(counts.get("test", 0)))
    more = len(found.classes) - _CLASSES
    tail = [Text(f"and {more} more classes (--json has them all)")] if more > 0 else []
    return Group(rows(found.name, entries), table, *tail, Text())


_CLASSES = 50


def _state(state: Any) -> str:
    if not state.present:
        return "not here"
    return state.problem or ("complete, intact" if state.intact else "complete, no checksum")


def run_table(result: RunResult) -> Group:
    """The results of a run on the test split, with those of the paper's tables first."""
    numbers, model, data = result.evaluation.numbers["z_e"], result.config.model, result.config.data
    entries = [(_RESULTS[name], _result(name, numbers[name])) for name in _RESULTS if name in numbers]
    title = f"{BOTTLENECKS[model.bottleneck].label} on {data.data}"
    return rows(f"{title}, {numbers['iterations']:.0f} iterations, test split", entries)


_RESULTS = {
    "clustering_accuracy": "clustering accuracy",
    "nmi": "NMI",
    "silhouette": "silhouette",
    "probe_accuracy": "probe accuracy",
    "nmse": "reconstruction error (nMSE)",
    "bits_per_image": "information (bits per image)",
    "perplexity": "codebook perplexity",
    "active_codes": "active codes",
    "posterior_entropy_bits": "posterior entropy (bits)",
    "kl_nats": "KL (nats)",
}
"""Which numbers of an evaluation are shown."""


def info_tables(document: Mapping[str, Any]) -> Group:
    """A document of ``describe``: a table a section, and the rest above them."""
    sections = {name: value for name, value in document.items() if isinstance(value, Mapping)}
    if "results" in sections:
        sections["results"] = {name: _result(name, value) for name, value in sections["results"].items()}
    config = sections.pop("config", {})
    sections |= {f"{name} settings": values for name, values in config.items()}
    above = [(name, _short(value)) for name, value in document.items() if name not in (*sections, "config", "kind")]
    tables = [rows(f"{document['kind']}", above)]
    for name, values in sections.items():
        shown = [(key, _short(value)) for key, value in values.items() if value is not None]
        if shown:
            tables.append(rows(name, shown))
    return Group(*tables)


def _result(name: str, value: float) -> str:
    return per_cent(value) if name.endswith("accuracy") else f"{value:.4g}"


def _short(value: object) -> str:
    """A value in a table cell."""
    match value:
        case float():
            return f"{value:.6g}"
        case list():
            return " x ".join(map(str, value)) if all(isinstance(v, int) for v in value) else ", ".join(map(str, value))
        case _:
            return "–" if value is None else str(value)
