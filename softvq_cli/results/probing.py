"""The probes of one model's latents: softmax, nearest neighbours, few labels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softvq_cli.errors import Message, UsageError
from softvq_cli.files import temporary_folder
from softvq_cli.words import Solver

if TYPE_CHECKING:
    from softvq_cli.datasets.progress import Progress
    from softvq_cli.embeddings import Embedding
    from softvq_cli.evaluation.probe import FewLabels, Probe


@dataclass(frozen=True)
class Probing:
    """What the probes found."""

    softmax: Probe
    neighbours: Probe | None
    few_labels: tuple[FewLabels, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the softmax probe, with the others below it where they were asked for."""
        document = self.softmax.as_dict()
        if self.neighbours is not None:
            document["neighbours"] = self.neighbours.as_dict()
        if self.few_labels:
            document["few_labels"] = [one.as_dict() for one in self.few_labels]
        return document


def probe_files(
    files: Sequence[Path],
    *,
    labels: Sequence[Path] = (),
    solver: Solver = "lbfgs",
    neighbours: int | None = None,
    few_labels: Sequence[int] = (),
    seed: int = 0,
    data: str | None = None,
    data_dir: str | None = None,
    reading: Mapping[str, Any] | None = None,
    device: str = "auto",
    warn: Callable[[str], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
    begun: Callable[[str], None] = lambda _: None,
    progress: Progress | None = None,
) -> Probing:
    """Probe a checkpoint, of which both splits are embedded in a temporary folder, or two embedding files.

    Args:
        files: a checkpoint or a run's folder; or the embeddings of the training and of the test split.
        labels: of the two embedding files, where they are not beside them.
        solver: of the softmax probe, see :func:`softvq_cli.evaluation.probe.probe`.
        neighbours: also classify each test row by so many nearest training rows.
        few_labels: also train the layer on so many labels of each class.
        seed: of the solver and of the draws of labels.
        data: other data than the checkpoint was trained on.
        data_dir: where the named data sets lie now.
        reading: how other data are read, where not as those of the training were: settings by name.
        device: to embed on.
        warn: is told what is strange about the data.
        note: is told what was dropped, mapped or rounded.
        begun: is told what is being done.
        progress: is told of loading and embedding.

    Raises:
        UsageError: other files than these, or an argument that does not go with them.
        InputError: a file, the data or the labels cannot be used.
        SoftVQError: there is no folder for temporary files.
    """
    _check(files, labels, other_data=bool(data or data_dir or reading))
    with contextlib.ExitStack() as stack:
        if len(files) == 2:
            from softvq_cli import embeddings
            from softvq_cli.embeddings.labels import align

            pairs = zip(files, labels or (None, None), strict=True)
            (train, test), notes = align([embeddings.read(path, its_labels) for path, its_labels in pairs])
            for text in notes:
                note(text)
        else:
            from softvq_cli.results.source import Source

            source = Source.open(
                files[0],
                data=data,
                data_dir=data_dir,
                reading=reading or {},
                device=device,
                warn=warn,
                progress=progress,
                note=note,
            )
            train, test = source.embed_splits(stack.enter_context(temporary_folder()))
        begun("probing")
        return probe_splits(train, test, solver=solver, neighbours=neighbours, few_labels=few_labels, seed=seed)


def probe_splits(
    train: Embedding,
    test: Embedding,
    *,
    solver: Solver = "lbfgs",
    neighbours: int | None = None,
    few_labels: Sequence[int] = (),
    seed: int = 0,
) -> Probing:
    """Fit the probes on the rows of ``train`` and measure them on those of ``test``; as :func:`probe_files`."""
    from softvq_cli.evaluation.knn import neighbours as nearest
    from softvq_cli.evaluation.probe import few_labels as on_few_labels
    from softvq_cli.evaluation.probe import probe

    rows = (train.z, train.labels, test.z, test.labels)
    names = train.class_names
    return Probing(
        probe(*rows, solver=solver, class_names=names, seed=seed),
        None if neighbours is None else nearest(*rows, k=neighbours, class_names=names),
        tuple(on_few_labels(*rows, labels_per_class=n, seed=seed) for n in few_labels),
    )


def _check(files: Sequence[Path], labels: Sequence[Path], *, other_data: bool) -> None:
    if len(files) not in (1, 2):
        raise UsageError(f"give one checkpoint, or two embedding files (train, test), not {len(files)} files")
    if len(files) == 1 and files[0].suffix in (".npy", ".parquet"):
        raise UsageError("a probe of embedding files needs two of them: those of the train and of the test split")
    if labels and (len(labels), len(files)) != (2, 2):
        raise UsageError(
            Message("{labels} goes with two embedding files and is given twice: for the train and the test rows")
        )
    if len(files) == 2 and other_data:
        raise UsageError(Message("{data} and {data_dir} go with a checkpoint, not with embedding files"))
