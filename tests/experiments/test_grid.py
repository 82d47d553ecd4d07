"""Many cells side by side."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest

from softvq_cli.errors import Interrupted, RefusedError, UsageError
from softvq_cli.experiments import grid
from softvq_cli.experiments.cell import inspect
from softvq_cli.experiments.grid import GridObserver
from tests.experiments.conftest import do


class Recorder(GridObserver):
    """What a grid told."""

    def __init__(self):
        self.order, self.done, self.errors, self.last = [], [], {}, None

    def planned(self, cells, todo):
        self.order = [cell.name for cell in todo]

    def progressed(self, progress):
        self.last = progress

    def completed(self, cell):
        self.done.append(cell.name)

    def failed(self, cell, message):
        self.errors[cell.name] = message


def test_no_number_depends_on_how_many_run_side_by_side(make_cell):
    cells = [make_cell("soft-vq", seed) for seed in (0, 1)] + [make_cell("pca")]
    reference = [do(cell) for cell in cells]
    for cell in cells:
        for file in cell.folder.iterdir():
            file.unlink()
    recorder = Recorder()
    found = grid.run(cells, jobs=2, device="cpu", observer=recorder)
    assert [found.evaluations[cell] for cell in cells] == reference
    assert sorted(recorder.done) == ["pca-s0", "soft-vq-s0", "soft-vq-s1"]
    assert recorder.last.units == recorder.last.total
    assert not multiprocessing.active_children()


def test_no_number_depends_on_how_many_seeds_a_process_trains_at_once(make_cell):
    cells = [make_cell("soft-vq", seed) for seed in (0, 1, 2)] + [make_cell("vae", seed) for seed in (0, 1)]
    reference = [do(cell) for cell in cells]
    for cell in cells:
        for file in cell.folder.iterdir():
            file.unlink()
    recorder = Recorder()
    found = grid.run(cells, jobs=1, together=2, device="cpu", observer=recorder)
    assert [found.evaluations[cell] for cell in cells] == reference
    assert recorder.order == ["soft-vq-s0", "soft-vq-s1", "vae-s0", "vae-s1", "soft-vq-s2"]
    assert recorder.done == recorder.order
    assert recorder.last.units == recorder.last.total


def test_of_seeds_trained_at_once_one_that_fails_stops_no_other(make_cell):
    damaged, good = make_cell("ae", 0), make_cell("ae", 1)
    do(damaged)
    (damaged.folder / "ckpt.pt").write_bytes(b"PK nonsense")
    found = grid.run([damaged, good], jobs=1, together=2, device="cpu")
    assert (list(found.failures), list(found.evaluations)) == ([damaged], [good])


def test_finished_cells_are_only_read(make_cell):
    cell = make_cell("ae")
    found = do(cell)
    recorder = Recorder()
    assert grid.run([cell], device="cpu", observer=recorder).evaluations == {cell: found}
    assert (recorder.order, recorder.done) == ([], [])


def test_the_longest_cell_is_begun_first_and_a_failing_one_stops_no_other(make_cell):
    short, long, damaged = make_cell("ae", 0), make_cell("ae", 1, iterations=9), make_cell("ae", 2, iterations=5)
    do(short)
    (short.folder / "evaluation.json").unlink()
    do(damaged)
    (damaged.folder / "ckpt.pt").write_bytes(b"PK nonsense")
    recorder = Recorder()
    found = grid.run([short, damaged, long], jobs=1, device="cpu", observer=recorder)
    assert recorder.order == ["ae-s1", "ae-s2", "ae-s0"]
    assert set(found.evaluations) == {short, long}
    assert list(found.failures) == [damaged]
    assert "not a complete softvq checkpoint" in recorder.errors["ae-s2"]


def test_a_process_that_is_killed_costs_its_own_cell_only(make_cell):
    endless, other = make_cell("ae", 0, iterations=10_000_000), make_cell("ae", 1)

    class Killer(Recorder):
        def progressed(self, progress):
            if progress.running.get("ae-s0") == "training":
                for child in multiprocessing.active_children():
                    child.kill()

    recorder = Killer()
    found = grid.run([endless, other], jobs=1, device="cpu", observer=recorder)
    assert list(found.evaluations) == [other]
    assert "its process was killed" in found.failures[endless]


def test_a_stop_leaves_checkpoints_and_says_how_to_go_on(make_cell):
    endless, stop = make_cell("ae", iterations=10_000_000), threading.Event()

    class Stopper(Recorder):
        def progressed(self, progress):
            if progress.units > 0:
                stop.set()

    with pytest.raises(Interrupted, match="stopped with 0 of 1 cells done; to go on: softvq again"):
        grid.run([endless], device="cpu", observer=Stopper(), stop=stop, again="softvq again")
    state = inspect(endless)
    assert state.step > 0
    assert not state.finished
    assert not multiprocessing.active_children()


def test_an_exception_ends_the_processes(make_cell):
    class Broken(Recorder):
        def progressed(self, progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grid.run([make_cell("ae", iterations=10_000_000)], device="cpu", observer=Broken())
    end = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < end:
        time.sleep(0.05)
    assert not multiprocessing.active_children()


def test_other_settings_are_refused_before_anything_runs(make_cell):
    do(make_cell("ae"))
    recorder = Recorder()
    with pytest.raises(RefusedError):
        grid.run([make_cell("vq"), make_cell("ae", iterations=5)], device="cpu", observer=recorder)
    assert recorder.order == []


def test_jobs_below_1_are_refused():
    with pytest.raises(UsageError, match="--jobs must be at least 1, not 0"):
        grid.run([], jobs=0, device="cpu")
    assert grid.jobs_for(None, "cpu") >= 1
    assert grid.jobs_for(5, "cpu") == 5
