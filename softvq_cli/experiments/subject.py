"""What a cell's evaluation measures: the rows of a control, or what a trained model makes of the images."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from softvq_cli.experiments.evaluated import MAP_FILE
from softvq_cli.experiments.tables import BASIC, MAP, PCA, RAW
from softvq_cli.files import atomic_write

if TYPE_CHECKING:
    from softvq_cli.datasets.dataset import Dataset
    from softvq_cli.experiments.cell import Cell
    from softvq_cli.experiments.measure import Latents
    from softvq_cli.training.checkpoint import Checkpoint


class Subject:
    """What is evaluated: its latents are made when a part first needs them."""

    def __init__(self, cell: Cell, checkpoint: Checkpoint | None, train: Dataset, test: Dataset) -> None:
        self.cell, self.checkpoint, self.train, self.test = cell, checkpoint, train, test
        self.extra: dict[str, float] = {}
        """Figures that come with the latents."""
        self._latents: Latents | None = None

    def figures(self, part: str, jobs: int, saving: threading.Lock) -> dict[str, dict[str, float]]:
        """Representation → figures by name, of one part.

        Args:
            part: what is to be measured.
            jobs: threads.
            saving: held while a file is written.
        """
        from softvq_cli.experiments import measure

        own = representation_of(self.cell.row)
        rows = self.latents()
        if part == MAP:
            on_map = measure.on_map(rows.test, rows.test_labels, jobs=jobs)
            with saving, atomic_write(self.cell.folder / MAP_FILE) as file:
                np.save(file, on_map.coordinates)
            return {own: measure.map_figures(on_map)}
        found = {own: measure.rows_figures(rows, part, jobs=jobs)}
        if part == BASIC:
            found[own] |= self.extra
            if self.checkpoint is not None:
                model = self.checkpoint.model
                found[own] |= model.evaluate(self.test.images)
                if model.bottleneck.centroids() is not None:
                    rows = measure.latents(model, self.train, self.test, "z_q")
                    found["z_q"] = measure.rows_figures(rows, part, jobs=jobs)
        return found

    def latents(self) -> Latents:
        """The row's own."""
        if self._latents is None:
            self._latents = self._make()
        return self._latents

    def _make(self) -> Latents:
        from softvq_cli.experiments import controls, measure

        if self.cell.row == RAW:
            return controls.pixels(self.train, self.test)
        if self.cell.row == PCA:
            d = self.cell.config.model.latent_dim
            rows, self.extra["nmse"] = controls.principal_components(self.train, self.test, d)
            return rows
        if self.checkpoint is None:
            model = controls.untrained(self.cell.config, self.train)
        else:
            model = self.checkpoint.model
            self.extra["iterations"] = self.checkpoint.step
        return measure.latents(model, self.train, self.test)


def representation_of(row: str) -> str:
    """The row's own representation."""
    return {RAW: "pixels", PCA: "pca"}.get(row, "z_e")
