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
    from softvq_cli.datasets.load import Overview
    from softvq_cli.datasets.named import Status
    from softvq_cli.evaluation.clustering import Clustering
    from softvq_cli.evaluation.probe import FewLabels, Probe
    from softvq_cli.results.embedded import FileClustering, OnMap, Probing
    from softvq_cli.results.issues import Issues
    from softvq_cli.results.pipeline import RunResult
    from softvq_cli.results.predict import Prediction

Entries = Iterable[tuple[str, object]]
_CLASSES = 50
"""At most so many classes are listed."""
_METHODS = {"gmm": "mixture of Gaussians", "agglomerative": "merged by Ward's criterion"}


def rows(title: str, entries: Entries) -> Group:
    """Two columns: what it is, and its value."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, show_edge=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in entries:
        table.add_row(Text(one_line(name, None)), Text(one_line(str(value), None)))
    return titled(one_line(title, None), table)


def titled(title: str, table: Table) -> Group:
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


def clustering_tables(result: FileClustering) -> Group:
    """The clusters of one embedding file, and of its map."""
    return Group(_clusters(result.clustering), *([] if result.on_map is None else [_map(result.on_map)]))


def _agreement(clustering: Clustering) -> list[tuple[str, object]]:
    """How clusters and classes agree; nothing without labels."""
    values = {"NMI": clustering.nmi, "ARI": clustering.ari}
    numbers: list[tuple[str, object]] = [(name, f"{value:.4f}") for name, value in values.items() if value is not None]
    return [] if clustering.accuracy is None else [("accuracy", per_cent(clustering.accuracy)), *numbers]


def _clusters(clustering: Clustering) -> Group:
    silhouette = "–" if clustering.silhouette is None else f"{clustering.silhouette:.4f}"
    entries = _agreement(clustering) or [("silhouette", silhouette)]
    entries.append(("inertia", f"{clustering.inertia:.6g}"))
    how = _METHODS.get(clustering.method, f"best of {clustering.n_init} starts")
    return rows(f"{clustering.clusters} clusters of {clustering.n} rows, {how}", entries)


def _map(on_map: OnMap) -> Group:
    quality = on_map.quality
    entries = [
        *_agreement(on_map.clustering)[:2],
        ("trustworthiness", f"{quality.trustworthiness:.4f}"),
        (f"recall of the {quality.k} nearest", f"{quality.knn_recall:.4f}"),
    ]
    extra = "" if on_map.exaggeration == 1 else f", exaggeration {on_map.exaggeration:g}"
    return rows(f"the same on a t-SNE map, perplexity {on_map.perplexity:g}{extra}", entries)


def probing_tables(probing: Probing) -> Group:
    """All probes of one model: the softmax probe and where it is weak, nearest neighbours, few labels."""
    softmax, nearest = probing.softmax, probing.neighbours
    weakest = sorted(softmax.per_class.items(), key=lambda item: item[1])[:3]
    classes = [(f"class {name}, among the weakest", per_cent(value)) for name, value in weakest]
    title = f"softmax probe, {softmax.n_train} training and {softmax.n_test} test rows"
    tables = [rows(title, [*_accuracies(softmax), *classes])]
    if nearest is not None:
        tables.append(rows(f"{nearest.method['neighbours']} nearest neighbours", _accuracies(nearest)))
    if probing.few_labels:
        title = f"softmax probe on few labels, mean of {probing.few_labels[0].accuracy.n} draws"
        tables.append(rows(title, map(_few_labels, probing.few_labels)))
    return Group(*tables)


def _accuracies(probe: Probe) -> list[tuple[str, object]]:
    test, train = per_cent(probe.accuracy), per_cent(probe.train_accuracy)
    rows = f"{probe.method['train_rows']} of the" if "train_rows" in probe.method else "the"
    return [("accuracy", test), (f"accuracy on {rows} training rows", train)]


def _few_labels(few: FewLabels) -> tuple[str, object]:
    spread = "" if few.accuracy.std is None else f" ± {per_cent(few.accuracy.std)}"
    return f"{few.labels_per_class} labels a class", per_cent(few.accuracy.mean) + spread


def data_table(data_dir: str, states: Sequence[Status]) -> Group:
    """The named data sets: what they are and in which state."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("name", "what it is", "state"):
        table.add_column(name)
    table.add_column("size", justify="right")
    for state in states:
        whole = state.problem or "complete, intact"
        size = f"{state.size / 1e6:.1f} MB" if state.size else "–"
        table.add_row(state.name, state.description, whole if state.present else "not here", size)
    return titled(f"data sets in {data_dir}", table)


def overview_tables(overview: Overview) -> Group:
    """What was read of a data set: counts by split and class, and what is odd."""
    drawn = " (drawn: the data have no test split)" if overview.drawn else ""
    kind = "vectors" if len(overview.image_shape) == 1 else "images"
    low, high = overview.pixels
    if kind == "vectors":
        form: dict[str, object] = {"numbers in each": overview.image_shape[0], "range": f"{low:.6g} to {high:.6g}"}
    else:
        height, width, channels = overview.image_shape
        values = overview.pixel_range.replace(",", " to ") if overview.pixel_range else "as they are, bytes"
        size = f"{width}x{height}, {'grey' if channels == 1 else 'colour'}"
        form = {"size": size, "pixels": f"{low} to {high} of 255", "black and white are": values}
    entries = {
        kind: f"{overview.counts['train']} train, {overview.counts['test']} test{drawn}",
        **form,
        "classes": len(overview.classes) or "none: there are no labels",
        f"{kind} equal to another": overview.duplicates,
        "of the test split, also in train": overview.shared,
        f"constant {kind}": overview.constant,
    }.items()
    if not overview.classes:
        return rows(overview.name, entries)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("class", overflow="fold")
    for name in ("train", "test"):
        table.add_column(name, justify="right")
    for name, counts in list(overview.classes.items())[:_CLASSES]:
        table.add_row(Text(one_line(name, 60)), str(counts.get("train", 0)), str(counts.get("test", 0)))
    more = len(overview.classes) - _CLASSES
    tail = [Text(f"and {more} more classes (--json has them all)")] if more > 0 else []
    return Group(rows(overview.name, entries), table, *tail, Text())


def run_table(result: RunResult) -> Group:
    """The results of a run on the test split, with those of the paper's tables first, next to the baselines."""
    from softvq_cli.results.evaluate import BASELINE_TITLES
    from softvq_cli.results.measures import RESULTS, measure

    carried = ("bits_per_image", "perplexity", "active_codes", "posterior_entropy_bits", "kl_nats")
    numbers, model, data = result.evaluation.numbers["z_e"], result.config.model, result.config.data
    baselines = result.evaluation.baselines
    label = BOTTLENECKS[model.bottleneck].label
    table = Table(box=box.SIMPLE_HEAD, show_header=bool(baselines), show_edge=False)
    table.add_column()
    for name in (label, *map(BASELINE_TITLES.__getitem__, baselines)):
        table.add_column(name, justify="right")
    for name, shown in {**RESULTS, **{name: measure(name).title for name in carried}}.items():
        if name in numbers:
            others = (_result(name, of[name]) if name in of else "–" for of in baselines.values())
            table.add_row(shown, _result(name, numbers[name]), *others)
    return titled(one_line(f"{label} on {data.data}, {numbers['iterations']:.0f} iterations, test split", None), table)


def predictions_table(predictions: Sequence[Prediction]) -> Group:
    """New images: what they are, how unusual, and what is near."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    labelled = any(prediction.cls is not None for prediction in predictions)
    table.add_column("file", overflow="fold")
    for name in (*(("class", "probability") if labelled else ()), "cluster", "outlier"):
        table.add_column(name, justify="left" if name == "class" else "right")
    table.add_column("nearest training image", overflow="fold")
    for one in predictions:
        named = [one_line(one.cls or "–", 40), per_cent(one.probability)] if labelled else []
        near = one.neighbours[0] if one.neighbours else None
        nearest = "–" if near is None else near.file + ("" if near.cls is None else f" ({near.cls})")
        cells = (one_line(one.file, None), *named, str(one.cluster), f"{one.outlier:.2f}", one_line(nearest, None))
        table.add_row(*map(Text, cells))
    return titled(_counted(len(predictions), "image"), table)


def info_tables(document: Mapping[str, Any]) -> Group:
    """A document of ``describe``: a table a section, and the rest above them."""
    sections = {name: value for name, value in document.items() if isinstance(value, Mapping)}
    if "results" in sections:
        sections["results"] = {name: _result(name, value) for name, value in sections["results"].items()}
    if "stages" in sections:
        from softvq_cli.evaluation.codes import as_text

        sections |= as_text(document)
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


def issues_table(issues: Issues) -> Group:
    """How many issues of each kind there are, with the first of them."""
    table, data = Table(box=box.SIMPLE_HEAD, show_edge=False), issues.table
    for title in ("issue", "found", "for example"):
        table.add_column(title, justify="right" if title == "found" else "left", overflow="fold")
    for kind, groups in issues.groups.items():
        example = ", ".join(data.file(row)["file"] for row in groups[0][:3].tolist()) if groups else ""
        table.add_row(kind.replace("_", " "), _counted(len(groups), "group"), Text(one_line(example)))
    for kind, suspects in issues.suspects.items():
        example = data.file(suspects[0].row)["file"] if suspects else ""
        if suspects and suspects[0].suggested_class is not None:
            example += f" ({data.class_of(suspects[0].row)}, perhaps {suspects[0].suggested_class})"
        table.add_row(kind.replace("_", " "), _counted(len(suspects), "image"), Text(one_line(example)))
    return titled(one_line(f"{data.name}: {_counted(len(data), 'image')}", None), table)


def _counted(n: int, noun: str) -> str:
    """``1 image``, ``20,000 images``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
