"""evaluation.json: what is read back, and what is measured again."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from softvq_cli.results import result
from softvq_cli.results.result import BASIC, MAP, NOTHING, PROBES, Evaluation

OF = {"row": "ae", "train": "a", "test": "b", "checkpoint_sha256": "seal"}
FIGURES = {"z_e": {"nmi": 0.5, "nmse": 0.1}, "z_q": {"nmi": 0.25}}

# As by a program that does not name its machine.
OLD = {"format": "softvq-evaluation", "version": result.VERSION, "of": OF, "parts": ["basic"], "figures": FIGURES}


def store(folder, value):
    """Write a file as another program would, with its checksum."""
    digest = hashlib.sha256(json.dumps(value).encode()).hexdigest()
    (folder / result.EVALUATION).write_text(json.dumps({**value, "sha256": digest}))


def test_what_was_written_is_read(tmp_path):
    written = Evaluation(FIGURES, (BASIC, PROBES), {"host": "here", "processor": "Z80"})
    result.write(tmp_path, OF, written)
    assert result.read(tmp_path, OF) == written
    assert result.of_checkpoint(tmp_path, "seal") == written


def test_a_file_without_a_machine_is_read(tmp_path):
    store(tmp_path, OLD)
    assert result.read(tmp_path, OF) == Evaluation(FIGURES, (BASIC,), None)


def test_a_file_written_without_a_machine_is_the_one_that_was_always_written(tmp_path):
    store(tmp_path, OLD)
    before = json.loads((tmp_path / result.EVALUATION).read_text())
    result.write(tmp_path, OF, Evaluation(FIGURES, (BASIC,)))
    assert json.loads((tmp_path / result.EVALUATION).read_text()) == before


@pytest.mark.parametrize("change", [{"row": "vq"}, {"test": "c"}, {"checkpoint_sha256": "other"}])
def test_an_evaluation_of_something_else_is_none(tmp_path, change):
    result.write(tmp_path, OF, Evaluation(FIGURES, (BASIC,)))
    assert result.read(tmp_path, OF | change) == NOTHING


def test_an_evaluation_of_another_checkpoint_is_none(tmp_path):
    result.write(tmp_path, OF, Evaluation(FIGURES, (BASIC,)))
    assert result.of_checkpoint(tmp_path, "another") == NOTHING


def test_a_number_that_was_changed_is_not_believed(tmp_path):
    result.write(tmp_path, OF, Evaluation(FIGURES, (BASIC,)))
    path = tmp_path / result.EVALUATION
    path.write_text(path.read_text().replace("0.25", "0.26"))
    assert result.read(tmp_path, OF) == NOTHING


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},  # its probe of codewords may have ended at chance
        {"format": "other"},
        {"figures": [1]},
        {"figures": {"z_e": {"nmi": "high"}}},
        {"figures": {"z_e": 1}},
        {"parts": None},
        {"machine": "here"},
        {"of": "seal"},
    ],
)
def test_another_form_is_none_although_its_checksum_fits(tmp_path, change):
    store(tmp_path, OLD | change)
    assert result.read(tmp_path, OF) == NOTHING
    assert result.of_checkpoint(tmp_path, "seal") == NOTHING


def test_a_map_counts_only_while_its_file_is_there(tmp_path):
    result.write(tmp_path, OF, Evaluation(FIGURES, (BASIC, MAP)))
    assert result.read(tmp_path, OF).parts == (BASIC,)
    np.save(tmp_path / result.MAP_FILE, np.zeros((4, 2)))
    assert result.read(tmp_path, OF).has((MAP, BASIC))
    (tmp_path / result.MAP_FILE).write_bytes(b"")
    assert result.read(tmp_path, OF).parts == (BASIC,)


def test_a_part_joins_the_others_and_replaces_itself():
    found = NOTHING.with_part(BASIC, FIGURES).with_part(PROBES, {"z_e": {"knn_accuracy": 0.75}})
    assert found.parts == (BASIC, PROBES)
    assert found.figures["z_e"] == {"nmi": 0.5, "nmse": 0.1, "knn_accuracy": 0.75}
    again = found.with_part(BASIC, {"z_e": {"nmi": 0.0}})
    assert (again.figures["z_e"]["nmi"], again.figures["z_q"]["nmi"], again.parts) == (0.0, 0.25, (PROBES, BASIC))
