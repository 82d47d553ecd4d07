"""Attacks on the program: kills, faults of the disk and mutated files, as many as fit into a time.

    python -m benchmarks.reliability kills --seconds 600
    python -m benchmarks.reliability installed --seconds 600
    python -m benchmarks.reliability faults --seconds 600
    python -m benchmarks.reliability mutations --seconds 600

Each prints a table, and ends with an error where a promise of docs/RELIABILITY.md does not hold. The suite tries fewer
of the same (tests/reliability). The figures in docs/RELIABILITY.md are from here.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.mutations import mutated_files
from benchmarks.timing import table_line
from tests.helpers import Result, Zygote, ended_well, installed, plain, save_blobs, temporaries, tiny, zygote_in

ERRORS = ("EIO", "ENOSPC", "EROFS", "EDQUOT", "ESTALE", "EINTR")


@dataclass(frozen=True)
class Command:
    """A command that can be interrupted and given again."""

    first: list[Any]
    again: list[str]
    """The words that are added to go on after an interruption."""
    before: list[Any] | None = None
    """The words of a command that has to run first."""


def commands(npz: Path) -> dict[str, Command]:
    words = tiny(npz, iterations=12, log_every=5, checkpoint_every=1)
    train = ["train", "--out", "run", *words]
    size = ["--iterations", "6", "--batch-size", "8", "--K", "3", "--latent-dim", "2", "--device", "cpu"]
    study = [*size, "--seeds", "1", "--jobs", "2", "--out", "study", "--quiet"]
    return {
        "train": Command(train, ["--resume"]),
        "run": Command(["run", "--out", "run", "--quiet", *words], ["--resume"]),
        "embed": Command(["embed", "run", "--split", "all", "-o", "z.npy", "--quiet"], ["--overwrite"], train),
        "reproduce": Command(["reproduce", "table1", "--data", f"mnist={npz}", "--only", "pca,ae,vq", *study], []),
        "sweep": Command(["sweep", "--over", "beta=0,1", "-b", "vae", "--data", npz, "--arch", "mlp", *study], []),
    }


# ---- what a command leaves


def leaves(folder: Path) -> dict[str, Any]:
    """What is below the folder: JSON by its values, a checkpoint by its tensors, all other files by their bytes."""
    from softvq_cli.training import archive

    values: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"):
        name = str(path.relative_to(folder))
        if path.suffix == ".jsonl":
            values |= flat([json.loads(line) for line in path.read_text().splitlines()], name)
        elif path.suffix == ".json":
            values |= flat(json.loads(path.read_text()), name)
        elif path.name == "ckpt.pt":
            values |= flat(plain(archive.read(path)[0]), name)
        else:
            values[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return values


def flat(value: Any, name: str) -> dict[str, Any]:
    """The numbers and texts of a document by their path in it."""
    if not isinstance(value, dict | list):
        return {name: value}
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return {leaf: inner for key, part in parts for leaf, inner in flat(part, f"{name}/{key}").items()}


def prepared(zygote: Zygote, command: Command, folder: Path) -> Path:
    folder.mkdir(parents=True)
    if command.before:
        zygote.run(*command.before, cwd=folder).done()
    return folder


@dataclass(frozen=True)
class Undisturbed:
    """What a command leaves when nothing disturbs it: what is the same in two runs of it, so no clocks."""

    values: dict[str, Any]
    names: set[str]
    """Of all files and values, also of clocks."""
    seconds: float
    """How long it takes."""

    @classmethod
    def of(cls, zygote: Zygote, command: Command, folder: Path) -> Undisturbed:
        both = []
        for number in range(2):
            place = prepared(zygote, command, folder / f"undisturbed-{number}")
            start = time.monotonic()
            zygote.run(*command.first, cwd=place).done()
            seconds = time.monotonic() - start
            both.append(leaves(place))
        assert both[0].keys() == both[1].keys()
        return cls({name: value for name, value in both[0].items() if both[1][name] == value}, set(both[0]), seconds)

    def check(self, place: Path, moment: object) -> None:
        """Raise AssertionError unless the folder holds the same."""
        now = leaves(place)
        differing = [name for name, value in self.values.items() if now.get(name) != value]
        differing += self.names ^ now.keys()
        assert not differing, (moment, place, differing[:5])
        assert not temporaries(place), (moment, temporaries(place))


def finished(start: Callable[..., Result], command: Command, place: Path) -> Result:
    """Let the command go on to its end; what a killed one has started may hold its folder for a moment."""
    for _ in range(600):
        ended = start(*command.first, *command.again, cwd=place)
        if ended.code != 4:
            return ended.done()
        time.sleep(0.1)
    raise AssertionError(ended)


# ---- kills


def kills(zygote: Zygote, command: Command, folder: Path) -> Iterator[list[str]]:
    """Kill the command at random moments until it gets to its end, again and again; yields when a run's kills came."""
    whole, chance = Undisturbed.of(zygote, command, folder), random.Random(0)
    for number in itertools.count():
        place, moments = prepared(zygote, command, folder / str(number)), []
        for attempt in itertools.count():
            longest = whole.seconds * (1 + attempt / 20)  # the machine may have become slower
            again = command.again if attempt else []
            ended = zygote.run(*command.first, *again, cwd=place, after=chance.uniform(0, longest))
            if ended.code != -signal.SIGKILL:
                break
            moments.append("while writing a file" if temporaries(place) else "between writes")
        assert ended.code in (0, 4), ended
        finished(zygote.run, command, place)
        whole.check(place, number)
        yield moments


def installed_kills(zygote: Zygote, command: Command, folder: Path) -> Iterator[list[str]]:
    """The same of the program as a shell starts it, with the networks of the paper."""

    def start(*words: object, cwd: Path, after: float | None = None, **_: object) -> Result:
        process = installed(*words, cwd=cwd)
        try:
            out, err = process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        return Result(process.returncode, out, err)

    fresh = type("Installed", (), {"run": staticmethod(start)})
    yield from kills(fresh, command, folder)  # type: ignore[arg-type]


# ---- faults


def faults(zygote: Zygote, command: Command, folder: Path) -> Iterator[list[str]]:
    """Let each call that writes fail once, with each error; yields how the command ended, if nothing is lost."""
    whole = Undisturbed.of(zygote, command, folder)
    for moment in itertools.count():
        for name in ERRORS:
            place = prepared(zygote, command, folder / f"{moment}-{name}")
            ended = zygote.run(*command.first, cwd=place, fault=[moment, getattr(errno, name)])
            ended_well(ended)
            assert ended.code in (0, 1), (moment, name, ended)
            if not (place / "fault").exists():
                return  # the command makes fewer calls than that
            (place / "fault").unlink()
            finished(zygote.run, command, place)
            whole.check(place, (moment, name))
            yield [f"{name}: " + ("went on" if ended.code == 0 else "one line")]


# ---- the tables


def run(attack: Callable[..., Iterator[list[str]]], seconds: float, only: list[str]) -> None:
    """Share the time among the commands, and print a row for each."""
    print(table_line(["command", "times", "what came of it"]) + "\n" + table_line(["---", "---:", "---"]))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["SOFTVQ_CACHE"] = str(folder / "cache")
        zygote = zygote_in(folder, os.getpid())
        chosen = {name: one for name, one in commands(save_blobs(folder / "blobs.npz")).items() if name in only}
        for name, command in chosen.items():
            end, tally, over = time.monotonic() + seconds / len(chosen), Counter[str](), False
            for outcomes in attack(zygote, command, folder / name):
                tally.update(outcomes)
                if over := time.monotonic() > end:
                    break
            text = ", ".join(f"{outcome} {count}" for outcome, count in sorted(tally.items()))
            print(table_line([name, tally.total(), text + "; the time was over" * over]), flush=True)


def main() -> None:
    attacks: dict[str, Any] = {"kills": kills, "installed": installed_kills, "faults": faults, "mutations": None}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description="Attacks on the program.")
    parser.add_argument("attack", choices=attacks)
    parser.add_argument("--seconds", type=float, default=600, help="how long, all commands together")
    names = ["train", "run", "embed", "reproduce", "sweep"]
    parser.add_argument("--only", nargs="+", default=names, choices=names, help="the commands; all unless given")
    chosen = parser.parse_args()
    if chosen.attack == "mutations":
        mutated_files(chosen.seconds)
    else:
        run(attacks[chosen.attack], chosen.seconds, chosen.only)


if __name__ == "__main__":
    main()
