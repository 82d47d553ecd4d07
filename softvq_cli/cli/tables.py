"""Tables that display the JSON documents of commands; fractions are shown in per cent."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from softvq_cli.errors import one_line
from softvq_cli.words import BOTTLENECKS

Document = Mapping[str, Any]
_CLASSES = 50
"""Maximum number of classes listed."""
_WIDE = 6
"""Maximum columns of a study's table that shows ranges of values; the reports always show them."""
_METHODS = {"gmm": "mixture of Gaussians", "agglomerative": "merged by Ward's criterion"}


def columns(
    title: str, header: Sequence[str], lines: Iterable[Sequence[object]], dim: Container[int] = (), **form: Any
) -> Group:
    """A table below its title, which may be longer than the table is wide; ``>size`` is a right-aligned column.

    Names may come from untrusted files: markup is escaped, and they stay on one line. ``dim`` has the indices of dimmed
    lines; ``form`` is passed to rich's table.
    """
    named = any(name.strip(">") for name in header)
    table = Table(box=box.SIMPLE_HEAD, show_header=named, show_edge=False, **form)
    for name in header:
        side = "right" if name.startswith(">") else "left"
        table.add_column(Text(name.lstrip(">")), justify=side, overflow="fold")  # type: ignore[arg-type]
    for number, cells in enumerate(lines):
        texts = (Text(one_line(str(cell), None)) for cell in cells)
        table.add_row(*texts, style="dim" if number in dim else "")
    return Group(Text(one_line(title, None), style="bold"), table, Text())


def rows(title: str, entries: Iterable[tuple[str, object]]) -> Group:
    """A table of two columns, names and values."""
    return columns(title, ("", ""), entries)


def per_cent(fraction: float | None) -> str:
    """Format 0.7764 as 77.64 %."""
    return "–" if fraction is None else f"{100 * fraction:.2f} %"


def result(name: str, value: float | None) -> str:
    """Format a result according to its name."""
    if name.endswith("accuracy"):
        return per_cent(value)
    return "–" if value is None else f"{value:.4g}"


def counted(n: int, noun: str) -> str:
    """``1 image``, ``20,000 images``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _heading(document: Document) -> str:
    """``soft VQ-VAE on mnist``."""
    config = document["config"]
    return f"{BOTTLENECKS[config['model']['bottleneck']].label} on {config['data']['data']}"


def training_table(document: Document) -> Group:
    """The settings of a run and its final losses."""
    shown = [(name.replace("_", " "), f"{v:.4g}") for name, v in document["metrics"].items() if name != "step"]
    return rows(f"{_heading(document)}, {document['config']['train']['iterations']} iterations", shown)


def run_table(document: Document) -> Group:
    """The results of a run on the test split, those of the paper's tables first, next to the baselines."""
    from softvq_cli.results.evaluate import BASELINE_TITLES
    from softvq_cli.results.measures import RESULTS, measure

    quantised = ("unquantised_nmse", "quantisation_error")
    carried = (*quantised, "bits_per_image", "perplexity", "active_codes", "posterior_entropy_bits", "kl_nats")
    titles = {**RESULTS, **{name: measure(name).title for name in carried}}
    model, others = document["results"], document["baselines"]
    label = BOTTLENECKS[document["config"]["model"]["bottleneck"]].label
    header = ["", f">{label}" if others else ">", *(f">{BASELINE_TITLES[name]}" for name in others)]
    lines = [
        [title, *(result(name, numbers.get(name)) for numbers in (model, *others.values()))]
        for name, title in titles.items()
        if name in model
    ]
    title = f"{_heading(document)}, {model['iterations']:.0f} iterations, test split"
    return Group(columns(title, header, lines), *_code_tables(document.get("code_usage", {})))


def _code_tables(usage: Document) -> list[Group]:
    """The usage of several codes per image, and the images that share them all; nothing without ``usage``."""
    from softvq_cli.evaluation.codes import as_text

    return [rows(name, lines.items()) for name, lines in as_text(usage).items()] if usage else []


def clustering_tables(document: Document) -> Group:
    """The clusters of one embedding file, and of its map."""
    agreement = _agreement(document) or [("silhouette", _decimals(document["silhouette"]))]
    how = _METHODS.get(document.get("method", ""), f"best of {document['n_init']} starts")
    title = f"{document['clusters']} clusters of {document['n']} rows, {how}"
    tables = [rows(title, [*agreement, ("inertia", f"{document['inertia']:.6g}")])]
    if on_map := document.get("map"):
        quality = on_map["quality"]
        entries = [
            *_agreement(on_map["clustering"])[:2],
            ("trustworthiness", _decimals(quality["trustworthiness"])),
            (f"recall of the {quality['k']} nearest", _decimals(quality["knn_recall"])),
        ]
        extra = "" if on_map["exaggeration"] == 1 else f", exaggeration {on_map['exaggeration']:g}"
        tables.append(rows(f"the same on a t-SNE map, perplexity {on_map['perplexity']:g}{extra}", entries))
    return Group(*tables)


def _agreement(clusters: Document) -> list[tuple[str, object]]:
    """Measures of agreement between clusters and classes; empty without labels."""
    if "clustering_accuracy" not in clusters:
        return []
    accuracy = per_cent(clusters["clustering_accuracy"])
    return [("accuracy", accuracy), ("NMI", _decimals(clusters["nmi"])), ("ARI", _decimals(clusters["ari"]))]


def _decimals(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def probing_tables(document: Document) -> Group:
    """All probes of one model: softmax regression with its weakest classes, k-NN, few labels."""

    def accuracies(test: float, train: float, drawn: str = "the") -> list[tuple[str, object]]:
        return [("accuracy", per_cent(test)), (f"accuracy on {drawn} training rows", per_cent(train))]

    weakest = sorted(document["per_class"].items(), key=lambda item: item[1])[:3]
    softmax = accuracies(document["probe_accuracy"], document["train_accuracy"])
    softmax += [(f"class {name}, among the weakest", per_cent(value)) for name, value in weakest]
    title = f"softmax probe, {document['n_train']} training and {document['n_test']} test rows"
    tables = [rows(title, softmax)]
    if knn := document.get("knn"):
        drawn = f"{knn['train_rows']} of the" if "train_rows" in knn else "the"
        nearest = accuracies(document["knn_accuracy"], knn["train_accuracy"], drawn)
        tables.append(rows(f"{knn['neighbours']} nearest neighbours", nearest))
    if few := document.get("few_labels"):
        entries = [
            (
                f"{draws['labels_per_class']} labels a class",
                per_cent(draws["mean"]) + ("" if draws["std"] is None else f" ± {per_cent(draws['std'])}"),
            )
            for draws in few
        ]
        tables.append(rows(f"softmax probe on few labels, mean of {few[0]['n']} draws", entries))
    return Group(*tables)


def data_table(document: Document) -> Group:
    """The named data sets and their state."""
    lines = [
        (
            state["name"],
            state["description"],
            (state["problem"] or "complete, intact") if state["present"] else "not here",
            f"{state['size'] / 1e6:.1f} MB" if state["size"] else "–",
        )
        for state in document["data"]
    ]
    return columns(f"data sets in {document['data_dir']}", ("name", "what it is", "state", ">size"), lines)


def overview_tables(document: Document) -> Group:
    """The content of a data set: counts by split and class, and problems."""
    vectors = len(document["image_shape"]) == 1
    kind, counts, (low, high) = "vectors" if vectors else "images", document["counts"], document["pixels"]
    drawn = " (drawn: the data have no test split)" if document["drawn"] else ""
    if vectors:
        form: dict[str, object] = {"numbers in each": document["image_shape"][0], "range": f"{low:.6g} to {high:.6g}"}
    else:
        height, width, channels = document["image_shape"]
        ends = document["pixel_range"]
        form = {
            "size": f"{width}x{height}, {'grey' if channels == 1 else 'colour'}",
            "pixels": f"{low} to {high} of 255",
            "black and white are": ends.replace(",", " to ") if ends else "as they are, bytes",
        }
    classes = document["classes"]
    entries = {
        kind: f"{counts['train']} train, {counts['test']} test{drawn}",
        **form,
        "classes": len(classes) or "none: there are no labels",
        f"{kind} equal to another": document["duplicates"],
        "of the test split, also in train": document["shared"],
        f"constant {kind}": document["constant"],
    }
    tables = [rows(document["name"], entries.items())]
    if classes:
        lines = [(one_line(name, 60), n.get("train", 0), n.get("test", 0)) for name, n in classes.items()]
        more = len(lines) - _CLASSES
        title = f"the first {_CLASSES} classes, and {more} more in --json" if more > 0 else "classes"
        tables.append(columns(title, ("class", ">train", ">test"), lines[:_CLASSES]))
    return Group(*tables)


def predictions_table(predictions: Sequence[Document]) -> Group:
    """New images with class, cluster, outlier score and neighbours."""
    labelled = any(each["class"] is not None for each in predictions)
    named = ("class", ">probability") if labelled else ()
    lines = []
    for each in predictions:
        cls = (one_line(each["class"] or "–", 40), per_cent(each["probability"])) if labelled else ()
        near = each["neighbours"][0] if each["neighbours"] else None
        nearest = "–" if near is None else near["file"] + ("" if near["class"] is None else f" ({near['class']})")
        lines.append((each["file"], *cls, each["cluster"], f"{each['outlier']:.2f}", nearest))
    header = ("file", *named, ">cluster", ">outlier", "nearest training image")
    return columns(counted(len(predictions), "image"), header, lines)


def issues_table(document: Document) -> Group:
    """The number of issues of each kind, and the first ones."""
    from softvq_cli.results.issues import GROUPS

    lines = []
    for kind, entries in document.items():
        if not isinstance(entries, list):
            continue
        example = ""
        if entries and kind in GROUPS:
            example = ", ".join(file["file"] for file in entries[0][:3])
        elif entries:
            suggested = entries[0].get("suggested_class")
            example = entries[0]["file"] + (
                "" if suggested is None else f" ({entries[0]['class']}, perhaps {suggested})"
            )
        number = counted(len(entries), "group" if kind in GROUPS else "image")
        lines.append((kind.replace("_", " "), number, one_line(example)))
    title = f"{document['data']}: {counted(document['images'], 'image')}"
    return columns(title, ("issue", ">found", "for example"), lines)


def info_tables(document: Document) -> Group:
    """A document of ``describe``: one table per section, other entries above them."""
    sections = {name: value for name, value in document.items() if isinstance(value, Mapping)}
    above = [(name, _short(value)) for name, value in document.items() if name not in sections and name != "kind"]
    if "results" in sections:
        sections["results"] = {name: result(name, value) for name, value in sections["results"].items()}
    codes = _code_tables({name: sections.pop(name) for name in ("stages", "collisions") if name in sections})
    sections |= {f"{name} settings": values for name, values in sections.pop("config", {}).items()}
    tables = [rows(document["kind"], above)]
    for name, values in sections.items():
        shown = [(key, _short(value)) for key, value in values.items() if value is not None]
        if shown:
            tables.append(rows(name, shown))
    return Group(*tables, *codes)


def _short(value: object) -> str:
    """A value in a table cell."""
    match value:
        case float():
            return f"{value:.6g}"
        case list():
            return " x ".join(map(str, value)) if all(isinstance(v, int) for v in value) else ", ".join(map(str, value))
        case _:
            return "–" if value is None else str(value)


def study_table(document: Document) -> Group:
    """The table of a report."""
    from softvq_cli.experiments.formats import main_table

    (first, *others), lines = main_table(document)
    header = [first, *(f">{title}" for title in others)]
    if len(header) > _WIDE:
        lines = [[label, *(text.partition(" (")[0] for text in texts)] for label, *texts in lines]
    controls = {number for number, row in enumerate(document["rows"]) if row["kind"] == "control"}
    return columns(document["title"], header, lines, controls, pad_edge=False, padding=0)
