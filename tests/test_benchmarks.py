"""The benchmarks run; their results are not tested."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable

import pytest

from tests.helpers import Result, Zygote

SECTIONS = {
    "floor": "## A training step and its floor",
    "operators": "## Where the time goes",
    "step": "## A training step compared with other loops",
    "gpu": "## On a GPU",
    "clustering": "## Clustering",
    "probe": "## Softmax probe, 300 × 8",
    "tsne": "## t-SNE, 100 × 8",
    "scaling": "## How cost grows",
    "scale": "## Data from 10^4 to 10^6 images",
    "load": "## On idle and on busy cores",
    "threads": "## Evaluation and its threads",
    "sizes": "## Commands on large images and many rows",
}


@pytest.fixture
def bench(zygote: Zygote) -> Callable[..., Result]:
    code = "import runpy; runpy.run_module('benchmarks', run_name='__main__')"
    return functools.partial(zygote.python, code, "--quick", "--threads", "1", "--device", "cpu")


@pytest.mark.slow
def test_one_command_prints_every_section_as_markdown(bench: Callable[..., Result]) -> None:
    done = bench(timeout=600).done()
    assert [line for line in done.out.splitlines() if line.startswith("## ")] == list(SECTIONS.values())
    assert "Not measured: no GPU." in done.out
    tables = re.findall(r"(?:^\|.*\|\n)+", done.out + "\n", flags=re.MULTILINE)
    assert len(tables) >= 10
    for table in tables:
        lines = table.splitlines()
        assert len(lines) >= 3
        assert len({line.count("|") for line in lines}) == 1
        assert all(re.search(r"\d", line) for line in lines[2:])


def test_an_unknown_section_is_refused_by_name(bench: Callable[..., Result]) -> None:
    done = bench("clustring")
    assert done.code == 2 and "'clustring'" in done.err


def test_without_a_gpu_its_section_says_so_in_one_line(bench: Callable[..., Result]) -> None:
    done = bench("gpu")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1) and "gpu" in done.err


def test_the_operations_of_a_step_are_those_of_its_matrix_products(zygote: Zygote) -> None:
    """Each weight of the network multiplies a batch three times, the first layer's twice: images have no gradient."""
    code = """
from benchmarks.ceilings import bytes_moved, operations
from benchmarks.models import session
from benchmarks.setting import Setting
one = session("mnist", Setting.of(True, None, 1, "wall", "cpu"), bottleneck="ae", batch_size=4)
print(operations(one), bytes_moved(one), sum(p.numel() for p in one.model.parameters()))
"""
    done = zygote.python(code, small=False).done()
    operations, moved, parameters = map(int, done.out.split())
    widths = [784, 500, 500, 2000, 64, 2000, 500, 500, 784]
    weights = [a * b for a, b in itertools.pairwise(widths)]
    assert operations == 2 * 4 * (3 * sum(weights) - weights[0])
    assert moved == 40 * parameters
    assert parameters == sum(weights) + sum(widths[1:])


def test_the_checks_before_a_gpus_speed_hold_on_the_cpu(zygote: Zygote) -> None:
    code = """
from benchmarks import correctness
from benchmarks.setting import Setting
for line in correctness.section(Setting.of(True, None, 1, "wall", "cpu")):
    print(line)
"""
    done = zygote.python(code).done()
    rows = [line for line in done.out.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 7
    assert all(row.endswith("| yes |") for row in rows), done.out
