"""evaluation.json: which parts are read back, and which are measured again."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from softvq_cli.results import evaluate
from softvq_cli.results.evaluate import BASIC, MAP, NOTHING, PROBES, QUANTISED, Evaluation

OF = {"row": "ae", "train": "a", "test": "b", "checkpoint_sha256": "seal"}
NUMBERS = {"z_e": {"nmi": 0.5, "test_nmse": 0.1}, "z_q": {"nmi": 0.25}}

# As by a program that does not name its machine.
OLD = {
    **{"format": "softvq-evaluation", "version": evaluate.VERSION, "of": OF, "parts": ["basic"]},
    **{"numbers": NUMBERS, "details": {}, "arrays": {}},
}


def store(folder, value):
    """Write a file as another program would, with its checksum."""
    digest = hashlib.sha256(json.dumps(value).encode()).hexdigest()
    (folder / evaluate.EVALUATION).write_text(json.dumps({**value, "sha256": digest}))


def test_what_was_written_is_read_if_it_is_of_the_same(tmp_path):
    written = Evaluation(NUMBERS, (BASIC, PROBES), {"n": [1, 2]}, machine={"host": "here", "processor": "Z80"})
    evaluate.write(tmp_path, OF, written)
    assert evaluate.read(tmp_path, OF) == written
    assert evaluate.read(tmp_path, {"checkpoint_sha256": "seal", "test": "b"}) == written
    for change in ({"row": "vq"}, {"test": "c"}, {"checkpoint_sha256": "other"}, {"seed": 0}):
        assert evaluate.read(tmp_path, OF | change) == evaluate.read(tmp_path, change) == NOTHING


def test_a_file_without_a_machine_is_read_and_stays_as_it_is(tmp_path):
    store(tmp_path, OLD)
    before = json.loads((tmp_path / evaluate.EVALUATION).read_text())
    assert evaluate.read(tmp_path, OF) == Evaluation(NUMBERS, (BASIC,))
    evaluate.write(tmp_path, OF, Evaluation(NUMBERS, (BASIC,)))
    assert json.loads((tmp_path / evaluate.EVALUATION).read_text()) == before


@pytest.mark.parametrize("damage", [("0.25", "0.26"), ('"nmi"', '"mni"'), ('"nmi": ', '"nmi": 1'), ("}", "")])
def test_a_file_that_was_changed_is_not_believed(tmp_path, damage):
    evaluate.write(tmp_path, OF, Evaluation(NUMBERS, (BASIC,)))
    path = tmp_path / evaluate.EVALUATION
    path.write_text(path.read_text().replace(*damage))
    assert evaluate.read(tmp_path, OF) == NOTHING
    path.write_text("[]")
    assert evaluate.read(tmp_path, OF) == NOTHING


@pytest.mark.parametrize(
    "change",
    [
        {"version": 4},
        {"format": "other"},
        {"numbers": [1]},
        {"numbers": {"z_e": {"nmi": "high"}}},
        {"numbers": {"z_e": 1}},
        {"parts": None},
        {"parts": [["basic"]]},
        {"details": None},
        {"arrays": {"map": 1}},
        {"arrays": {"../../other": "a"}},
        {"machine": "here"},
        {"of": "seal"},
    ],
)
def test_another_form_is_none_although_its_checksum_fits(tmp_path, change):
    store(tmp_path, OLD | change)
    assert evaluate.read(tmp_path, OF) == NOTHING


def test_a_part_counts_only_while_its_arrays_are_whole(tmp_path):
    coordinates = np.zeros((4, 2))
    written = evaluate.write(tmp_path, OF, Evaluation(NUMBERS, (BASIC, MAP), memory={"map": coordinates}))
    stored = evaluate.read(tmp_path, OF)
    assert not written.memory and stored == written and stored.has((MAP, BASIC))
    assert np.array_equal(stored.array("map"), coordinates) and stored.array("clusters") is None
    np.save(tmp_path / evaluate.ARRAYS["map"], coordinates + 1)
    assert evaluate.read(tmp_path, OF).parts == (BASIC,)
    (tmp_path / evaluate.ARRAYS["map"]).unlink()
    assert evaluate.read(tmp_path, OF).parts == (BASIC,)


def test_a_part_joins_the_others_and_replaces_itself():
    memory = {"clusters": np.arange(3)}
    first = Evaluation({"z_e": {"nmi": 0.5, "test_nmse": 0.1}}, (BASIC,), {"clusters": 3}, memory=memory)
    joined = first | Evaluation({"z_q": {"nmi": 0.25}}, (QUANTISED,))
    joined |= Evaluation({"z_e": {"knn_accuracy": 0.75}}, (PROBES,))
    assert joined.parts == (BASIC, QUANTISED, PROBES)
    assert joined.numbers == {"z_e": {"nmi": 0.5, "test_nmse": 0.1, "knn_accuracy": 0.75}, "z_q": {"nmi": 0.25}}
    assert np.array_equal(joined.array("clusters"), np.arange(3)) and joined.details == {"clusters": 3}
    again = joined | Evaluation({"z_e": {"nmi": 0.0}}, (BASIC,))
    assert (again.numbers["z_e"]["nmi"], again.numbers["z_q"]["nmi"]) == (0.0, 0.25)
    assert again.parts == (QUANTISED, PROBES, BASIC)
