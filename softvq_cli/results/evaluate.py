"""Evaluate a checkpoint or a control: numbers by name, arrays (most with one row per test image), and a JSON file.

``evaluation.json`` is stored in the run's folder. It identifies what was measured (by the seal of the checkpoint or the
settings of a control, and the fingerprints of both splits) and is replaced if that differs from the request. The arrays
are ``.npy`` files next to it, whose SHA-256 it stores.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import InputError, Interrupted, Message, SoftVQError
from softvq_cli.files import atomic_write, read_json, write_json
from softvq_cli.reporter import Reporter

if TYPE_CHECKING:
    import numpy as np

    from softvq_cli.results.measures import Measured
    from softvq_cli.results.subject import Subject
    from softvq_cli.training.checkpoint import Checkpoint

EVALUATION = "evaluation.json"
FORMAT = "softvq-evaluation"
VERSION = 5
"""Increased when a measure changes, so that old and new numbers are not mixed. 3: softmax regression converges further.
4: also for rows with few distinct values, such as the decoder's input of hard quantisation. 5: arrays, and
``nmse``."""

BASIC, QUANTISED, PROBES, TSNE, MAP, BASELINES = "basic", "z_q", "probes", "tsne", "map", "baselines"
"""The parts of an evaluation: the paper's measures and the information in the bottleneck; the paper's measures of the
decoder's input; other probes; the t-SNE map; the quality of the map; the paper's measures of chance, raw
pixels and PCA."""
ARRAYS: Mapping[str, str] = {
    "map": "map-test.npy",
    "clusters": "clusters-test.npy",
    "predictions": "predictions-test.npy",
    "errors": "errors-test.npy",
    "centres": "centres.npy",
    "probe": "probe.npy",
}
"""Array → its file. The t-SNE map, float64 (M, 2); the cluster of each image, int64 (M,), in the best K-means start;
its label predicted by softmax regression, int64 (M,); its nMSE, float64 (M,). For predictions on new images: the
centres of the clusters, float64 (K, d), NaN for empty clusters; softmax regression, float64 (C, 1 + d + 1): the label,
the weights and the bias of each class."""
_PARTS: Mapping[str, tuple[str, frozenset[str]]] = {
    BASIC: ("the paper's measures", frozenset({"clusters", "predictions", "errors", "centres", "probe"})),
    QUANTISED: ("the decoder's input", frozenset()),
    PROBES: ("the other probes", frozenset()),
    TSNE: ("the t-SNE map", frozenset({"map"})),
    MAP: ("the measures of the t-SNE map", frozenset({"map"})),
    BASELINES: ("the baselines", frozenset()),
}
"""Part → its display name, and its arrays; if one of them is missing, the part is measured again."""
FILES = (EVALUATION, *ARRAYS.values())
BASELINE_TITLES: Mapping[str, str] = {
    "random": "chance",
    "pixels": "raw data",
    "pca": "PCA",
    "rq-kmeans": "RQ-KMeans",
}
"""Baselines shown next to a model's numbers, by the name of their representation."""
OVERFITTING = 0.2
"""Minimum difference between training and test accuracy of the probe for a remark on overfitting."""
RQ_KMEANS = "rq-kmeans"
"""Residual K-means of the inputs, the baseline of ``rvq``."""
_AT = "z_e@"


def at(step: int) -> str:
    """The part with the paper's measures of the model after ``step`` iterations; in ``numbers``, it takes the place of
    a representation."""
    return f"{_AT}{step}"


def step_of(part: str) -> int | None:
    """The inverse of :func:`at`; None for other parts and for representations."""
    return int(part.removeprefix(_AT)) if part.startswith(_AT) else None


def _title(part: str) -> str:
    return _PARTS[part][0] if part in _PARTS else f"the model after {step_of(part)} iterations"


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation."""

    numbers: Mapping[str, Mapping[str, float]]
    """Representation (``z_e``, ``z_q``, ``pixels``, ``pca``; ``z_e@2000`` from :func:`at`) → measure → value."""
    parts: tuple[str, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    """Details for z_e: the values of every K-means start, the accuracy of every class, the confusion matrix."""
    arrays: Mapping[str, str] = field(default_factory=dict)
    """Name of an array in ``folder`` → SHA-256 of its file."""
    machine: Mapping[str, str] | None = None
    """``host`` and ``processor`` on which the last part was measured, if known."""
    folder: Path | None = field(default=None, compare=False)
    memory: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)
    """Arrays that are not in a file."""

    @property
    def baselines(self) -> dict[str, Mapping[str, float]]:
        """The measured baselines, of those in :data:`BASELINE_TITLES`."""
        return {name: self.numbers[name] for name in BASELINE_TITLES if self.has((BASELINES,)) and name in self.numbers}

    def remarks(self, trained: Checkpoint) -> list[str]:
        """Remarks on problems of the run, one sentence each."""
        numbers, raw = self.numbers["z_e"], self.baselines.get("pixels", {})
        seen, remarks = trained.step * trained.config.train.batch_size, []
        if seen < trained.dataset.n and trained.config.model.arch != "none":
            remarks.append(f"fewer than one epoch was seen: {seen:,} of {trained.dataset.n:,} training images")
        if "probe_accuracy" in numbers and numbers["train_accuracy"] - numbers["probe_accuracy"] > OVERFITTING:
            train, test = (f"{100 * numbers[name]:.1f} %" for name in ("train_accuracy", "probe_accuracy"))
            remarks.append(
                f"the probe is right for {train} of the training images and {test} of the test images: overfitting, "
                "for which there are too few images or too many latent dimensions"
            )
        compared = [name for name in ("clustering_accuracy", "probe_accuracy") if name in numbers and name in raw]
        if compared and all(numbers[name] <= raw[name] for name in compared):
            remarks.append("the latents are no better than the raw data, neither for the clusters nor for the probe")
        K, error = trained.config.model.K, numbers.get("quantisation_error")  # for models with several codes per image
        for stage, usage in self.details.get("code_usage", {}).get("stages", {}).items():
            if error is not None and usage["perplexity"] < K / 4:
                used = f"{usage['perplexity']:.3g}"
                remarks.append(f"stage {stage} uses its {K} codes as if there were {used} (perplexity)")
        if error is not None and error > 1:
            remarks.append(f"quantisation moves z_e by {error:.3g} of its variance: more than one code for all would")
        kmeans = self.baselines.get(RQ_KMEANS, {}).get("test_nmse", math.inf)
        if kmeans < numbers["test_nmse"]:
            remarks.append(
                f"residual K-means of the inputs, without a network, has the smaller error (nMSE): {kmeans:.3g}, "
                f"and this model {numbers['test_nmse']:.3g}"
            )
        return remarks

    def has(self, parts: Sequence[str]) -> bool:
        """Whether all of ``parts`` have been measured."""
        return set(parts) <= set(self.parts)

    def array(self, name: str) -> np.ndarray | None:
        """An array by its name in :data:`ARRAYS`, most with one row per test image; None if it was not measured."""
        if name in self.arrays and self.folder is not None:
            from softvq_cli.npy import map_file

            return map_file(self.folder / ARRAYS[name])
        return self.memory.get(name)

    @property
    def centres(self) -> np.ndarray:
        """The centres of the clusters, which every evaluation has."""
        centres = self.array("centres")
        assert centres is not None
        return centres

    def __or__(self, other: Evaluation) -> Evaluation:
        """The union; the values of ``other`` take precedence."""
        numbers = {**self.numbers}
        for representation, values in other.numbers.items():
            numbers[representation] = {**numbers.get(representation, {}), **values}
        return replace(
            self,
            numbers=numbers,
            parts=(*(part for part in self.parts if part not in other.parts), *other.parts),
            details={**self.details, **other.details},
            memory={**self.memory, **other.memory},
            machine=other.machine or self.machine,
        )


NOTHING = Evaluation({}, ())


def evaluate(
    subject: Subject,
    parts: Sequence[str],
    *,
    folder: Path | None = None,
    keep: bool = True,
    threads: int | None = None,
    kept: Callable[[int], Checkpoint] | None = None,
    machine: Mapping[str, str] | None = None,
    reporter: Reporter | None = None,
    stop: threading.Event | None = None,
) -> Evaluation:
    """Measure the missing parts of ``parts``, see :data:`BASIC` and :func:`at`.

    ``folder`` may have an earlier evaluation; with ``keep``, each completed part is written there. ``kept`` returns the
    checkpoint after a given number of iterations; ``machine`` is stored in the JSON. The result does not depend on
    ``threads``, by default one per core. Interrupted: ``stop`` was set before all parts were measured. A part that
    cannot be measured is omitted with a note, except the paper's measures.
    """
    reporter = reporter or Reporter()
    evaluation = NOTHING if folder is None else read(folder, subject.key)
    for part in parts:
        if part in evaluation.parts:
            continue
        if stop is not None and stop.is_set():
            raise Interrupted(f"stopped before measuring {_title(part)}")
        try:
            measured = _measure(part, subject, evaluation.array("map"), threads, kept, reporter)
        except SoftVQError as error:
            if part == BASIC:  # there is no result without it
                raise
            reporter.note(Message("without {}: {}", _title(part), error.message))
            continue
        evaluation |= replace(measured, parts=(part,), machine=machine)
        if folder is not None and keep:
            evaluation = write(folder, subject.key, evaluation)
    return evaluation


def _measure(
    part: str,
    subject: Subject,
    plane: np.ndarray | None,
    threads: int | None,
    kept: Callable[[int], Checkpoint] | None,
    reporter: Reporter,
) -> Evaluation:
    """Measure one part; ``plane`` is the t-SNE map, if there is one."""
    from softvq_cli.results import measures

    step, silent = step_of(part), Reporter()
    if part == BASELINES:
        return Evaluation(_baselines(subject, threads, reporter), ())
    if part == QUANTISED:  # a small number of codewords is expected here
        rows = subject.representation_rows("z_q")
        return Evaluation({part: measures.agreement(rows, subject.train.class_names, threads, silent).numbers}, ())
    if step is not None:
        if kept is None:
            raise InputError(f"there is no checkpoint of {step} iterations")
        return Evaluation({part: _basic(subject.compared_with(kept(step)), threads, reporter).numbers}, ())
    if part == PROBES:
        measured = measures.other_probes(subject.rows, threads)
    elif part in (TSNE, MAP):
        measured = measures.Measured({}, {} if plane is None else {"map": plane})
        if plane is None:  # the many maps of a study need no notes on how they are made
            measured = measures.tsne_map(subject.rows.test, threads, reporter if part == TSNE else silent)
        if part == MAP:
            measured |= measures.of_map(subject.rows, measured.arrays["map"], threads)
    else:
        measured = _basic(subject, threads, reporter)
    numbers = {subject.representation: measured.numbers}
    return Evaluation(numbers, (), measured.details, memory=measured.arrays)


def _basic(subject: Subject, threads: int | None, reporter: Reporter) -> Measured:
    """The paper's measures and the information in the bottleneck."""
    from softvq_cli.results import measures

    measured = measures.agreement(subject.rows, subject.train.class_names, threads, reporter)
    measured |= measures.Measured(dict(subject.numbers), details=_codes(subject))
    return measured if subject.checkpoint is None else measured | measures.of_encoding(subject.encoding, subject.rows)


def _codes(subject: Subject) -> dict[str, Any]:
    """The codebook usage of the test split, if an image has several codes."""
    from softvq_cli.evaluation.codes import describe_codes
    from softvq_cli.model import codes_shape

    codes = None if subject.checkpoint is None else subject.encoding.codes
    if codes is None or codes.shape[1] == 1:
        return {}
    assert subject.checkpoint is not None
    _, stages, K = codes_shape(subject.checkpoint.model)
    return {"code_usage": describe_codes(codes, stages, K, subject.test.labels, subject.test.file_names)}


def _residual_kmeans(subject: Subject, reporter: Reporter) -> dict[str, Mapping[str, float]]:
    """The nMSE of residual K-means on the inputs, with the same number of codes as the subject's model."""
    from softvq_cli.config import RunConfig
    from softvq_cli.presets import no_network
    from softvq_cli.training.session import Session

    assert subject.checkpoint is not None
    trained = subject.checkpoint.config
    if trained.model.bottleneck != "rvq" or trained.model.grid or trained.model.arch == "none":
        return {}
    reporter.stage("residual K-means of the inputs for comparison")
    settings = {**trained.flat(), **no_network(subject.train.image_shape, "rvq")}
    try:
        config = RunConfig.from_flat(settings)
        model = Session(config, subject.train, subject.test, subject.checkpoint.model.pixel_variance.device).model
    except SoftVQError as error:
        reporter.note(Message("without {}: {}", RQ_KMEANS, error.message))
        return {}
    return {RQ_KMEANS: {"test_nmse": model.eval().requires_grad_(False).evaluate(subject.test.images)["nmse"]}}


def _baselines(subject: Subject, threads: int | None, reporter: Reporter) -> dict[str, Mapping[str, float]]:
    """The paper's measures of chance, raw pixels and PCA, and the error of RQ-KMeans, by name."""
    from softvq_cli.results.measures import agreement
    from softvq_cli.results.subject import Control
    from softvq_cli.words import CHANCE, PCA, RAW

    if subject.checkpoint is None:
        return {}
    numbers = _residual_kmeans(subject, reporter)
    if subject.train.labels is None or subject.test.labels is None:
        return numbers
    for kind in (CHANCE, RAW, PCA):
        control = subject.compared_with(Control(kind, subject.checkpoint.config))
        name, key = BASELINE_TITLES[control.representation], json.dumps(control.key)
        try:
            if key not in _MEASURED:
                reporter.stage(f"measuring {name} for comparison")
                measured = agreement(control.rows, subject.train.class_names, threads, Reporter())
                _MEASURED[key] = {**measured.numbers, **control.numbers}
        except SoftVQError as error:
            reporter.note(Message("without {}: {}", name, error.message))
            continue
        numbers[control.representation] = _MEASURED[key]
    return numbers


_MEASURED: dict[str, dict[str, float]] = {}
"""Baselines measured in this process, by key, because the runs of a report share most of them."""


def read(folder: Path, key: Mapping[str, Any]) -> Evaluation:
    """The complete parts in ``folder``, if they are of a subject with all entries of ``key`` (:attr:`Subject.key`)."""
    document = _document(folder)
    return _evaluation(folder, document) if document and key.items() <= document["of"].items() else NOTHING


def write(folder: Path, key: Mapping[str, Any], evaluation: Evaluation) -> Evaluation:
    """Write the evaluation, each file atomically; returns it with its arrays in files."""
    import numpy as np

    digests = dict(evaluation.arrays)
    for name, array in evaluation.memory.items():
        with atomic_write(folder / ARRAYS[name]) as file:
            np.save(file, array, allow_pickle=False)
        digests[name] = _file_digest(folder / ARRAYS[name]) or ""
    evaluation = replace(evaluation, arrays=digests, memory={}, folder=folder)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "of": key,
        "parts": list(evaluation.parts),
        "numbers": evaluation.numbers,
        "details": evaluation.details,
        "arrays": digests,
    }
    if evaluation.machine is not None:
        document["machine"] = dict(evaluation.machine)
    write_json(folder / EVALUATION, {**document, "sha256": _digest(document)})
    return evaluation


def _evaluation(folder: Path, document: Mapping[str, Any]) -> Evaluation:
    whole = {name: sha for name, sha in document["arrays"].items() if _file_digest(folder / ARRAYS[name]) == sha}
    lost = document["arrays"].keys() - whole.keys()
    parts = tuple(part for part in document["parts"] if part not in _PARTS or not lost & _PARTS[part][1])
    return Evaluation(document["numbers"], parts, document["details"], whole, document.get("machine"), folder)


def _document(folder: Path) -> dict[str, Any] | None:
    """The content of the file; None if it is missing, damaged or of another version, so that it is measured again."""
    try:
        document = read_json(folder / EVALUATION)
    except InputError:
        return None
    if not isinstance(document, dict) or document.pop("sha256", None) != _digest(document):
        return None
    if (document.get("format"), document.get("version")) != (FORMAT, VERSION) or not _fits(document):
        return None
    return document


def _fits(document: Mapping[str, Any]) -> bool:
    """Whether the document has the form of :func:`write`; a matching digest alone can be forged."""
    numbers, parts, machine = document.get("numbers"), document.get("parts"), document.get("machine")
    mappings = [document.get(name) for name in ("of", "numbers", "details", "arrays")]
    mappings += [*(numbers.values() if isinstance(numbers, dict) else ()), machine or {}]
    if not all(isinstance(mapping, dict) for mapping in mappings) or not isinstance(parts, list):
        return False
    assert isinstance(numbers, dict)
    values = [value for of_representation in numbers.values() for value in of_representation.values()]
    texts = [*parts, *(machine or {}).values(), *document["arrays"].values()]
    known = document["arrays"].keys() <= ARRAYS.keys()
    return known and all(type(v) in (int, float) for v in values) and all(isinstance(t, str) for t in texts)


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def _file_digest(path: Path) -> str | None:
    """SHA-256 of a file; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
