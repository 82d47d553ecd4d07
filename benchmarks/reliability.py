"""Attacks on the program: kills, disk faults and mutated files, as many as fit into a given time.

    python -m benchmarks.reliability kills --seconds 600 --state counts.json
    python -m benchmarks.reliability installed --seconds 600 --state counts.json
    python -m benchmarks.reliability faults --seconds 600 --state counts.json
    python -m benchmarks.reliability mutations --seconds 600 --state counts.json

Each divides its time among commands or kinds of files and prints a table. It ends with an error if a guarantee of
docs/RELIABILITY.md does not hold. The next call with the same state file continues where this one ended. The test suite
tries fewer of the same (tests/reliability). The counts in docs/RELIABILITY.md are from here.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.mutations import mutated
from benchmarks.timing import table
from tests.helpers import Result, ended_well, installed, plain, save_blobs, temporaries, tiny, zygote_in

ERRORS = ("EIO", "ENOSPC", "EROFS", "EDQUOT", "ESTALE", "EINTR")
CLOCKS = ("seconds", "steps_per_second")
"""Metrics that are different in every training, except by chance."""
KILLS = 8
"""Maximum number of kills of a run; after that it may finish."""
Outcomes = list[str] | None
"""The outcomes of one attempt, one word each; None: there is nothing left to try."""
Try = Callable[[int], Outcomes]
"""Attacks one command or kind of file; the argument is the number of the attempt, from 0."""


@dataclass(frozen=True)
class Command:
    """A command that can be interrupted and given again."""

    first: list[Any]
    again: list[str]
    """Additional words that continue the command after an interruption."""
    before: list[Any] | None = None
    """A command that must run first."""


def commands(npz: Path, iterations: int) -> dict[str, Command]:
    words = tiny(npz, iterations=iterations, log_every=5, checkpoint_every=1)
    train, run = ["train", "--out", "run", *words], ["run", "--out", "run", "--quiet", *words]
    size = ["--iterations", "6", "--batch-size", "8", "--K", "3", "--latent-dim", "2", "--device", "cpu"]
    study = [*size, "--seeds", "1", "--jobs", "2", "--out", "study", "--quiet"]
    latents = "run/embeddings-test.npy"
    return {
        "train": Command(train, ["--resume"]),
        "run": Command(run, ["--resume"]),
        "embed": Command(["embed", "run", "--split", "all", "-o", "z.npy", "--quiet"], ["--overwrite"], train),
        "reproduce": Command(["reproduce", "table1", "--data", f"mnist={npz}", "--only", "pca,ae,vq", *study], []),
        "sweep": Command(["sweep", "--over", "beta=0,1", "-b", "vae", "--data", npz, "--arch", "mlp", *study], []),
        "cluster": Command(["cluster", latents, "-o", "c.npy", "--quiet"], ["--overwrite"], run),
        "tsne": Command(
            ["tsne", latents, "-o", "map.png", "--save-coords", "map.npy", "--quiet"], ["--overwrite"], run
        ),
        "report": Command(["report", "run", "-o", "page.html", "--quiet"], ["--overwrite"], run),
        "issues": Command(["issues", npz, "-o", "issues.csv", "--quiet"], ["--overwrite"]),
        "export": Command(["export", "run", "--safetensors", "-o", "m.safetensors", "--quiet"], ["--overwrite"], train),
    }


# ---- the output of a command


def leaves(folder: Path) -> dict[str, Any]:
    """The files below the folder: JSON as values, checkpoints as tensors, all others as bytes."""
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
    """The numbers and texts of a document, by their path in it."""
    if not isinstance(value, dict | list):
        return {name: value}
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return {
        leaf: inner for key, part in parts if key not in CLOCKS for leaf, inner in flat(part, f"{name}/{key}").items()
    }


class Trial:
    """A command in new folders, whose output is compared with that of an undisturbed command.

    Args:
        start: starts a process with the command.
        command: the command to attack.
        folder: for all files.
    """

    def __init__(self, start: Callable[..., Result], command: Command, folder: Path) -> None:
        self.start, self.command, self.folder = start, command, folder
        self.template = folder / "template"
        self.template.mkdir(parents=True)
        if command.before:
            start(*command.before, cwd=self.template).done()
        both = []
        for number in range(2):
            place = self.place(f"undisturbed-{number}")
            began = time.monotonic()
            start(*command.first, cwd=place).done()
            self.seconds = time.monotonic() - began
            both.append(leaves(place))
        assert both[0].keys() == both[1].keys()
        self.names = set(both[0])
        self.same = {name: value for name, value in both[0].items() if both[1][name] == value}  # excludes times

    def place(self, name: str) -> Path:
        """A new folder for the command."""
        return shutil.copytree(self.template, self.folder / name)

    def check(self, place: Path, moment: object) -> None:
        """Let the command finish, compare its output (AssertionError), and remove the folder."""
        for _ in range(600):
            ended = self.start(*self.command.first, *self.command.again, cwd=place)
            if ended.code != 4:  # workers of a killed command may lock its folder for a moment
                break
            time.sleep(0.1)
        ended.done()
        now = leaves(place)
        differing = [name for name, value in self.same.items() if now.get(name) != value]
        differing += self.names ^ now.keys()
        assert not differing, (moment, place, differing[:5])
        assert not temporaries(place), (moment, temporaries(place))
        shutil.rmtree(place, ignore_errors=True)


# ---- attacks


def kills(trial: Trial) -> Try:
    """Kill the command at random moments until it finishes; the outcomes are the phases in which it was killed."""

    def attack(number: int) -> Outcomes:
        place, chance, moments = trial.place(str(number)), random.Random(number), []
        for attempt in range(KILLS):
            again = trial.command.again if attempt else []
            ended = trial.start(*trial.command.first, *again, cwd=place, after=chance.uniform(0, trial.seconds))
            killed = ended.code == -signal.SIGKILL
            trial.seconds *= 1.02 if killed else 0.9  # adapts to the speed of the machine
            if not killed:
                assert ended.code in (0, 4), ended
                break
            moments.append("while writing a file" if temporaries(place) else "between writes")
        trial.check(place, number)
        return moments

    return attack


def faults(trial: Trial) -> Try:
    """Let each writing system call fail once, with each error; the outcome is how the command ended."""

    def attack(number: int) -> Outcomes:
        moment, name = number // len(ERRORS), ERRORS[number % len(ERRORS)]
        place = trial.place(f"{moment}-{name}")
        ended = trial.start(*trial.command.first, cwd=place, fault=[moment, getattr(errno, name)])
        ended_well(ended)
        assert ended.code in (0, 1), (moment, name, ended)
        if not (place / "fault").exists():
            return None  # the command makes fewer calls
        (place / "fault").unlink()
        trial.check(place, (moment, name))
        return [f"{name}: " + ("went on" if ended.code == 0 else "one line")]

    return attack


def as_a_shell(*words: object, cwd: Path, after: float | None = None) -> Result:
    """Run the program as a shell does, with the networks of the paper."""
    process = installed(*words, cwd=cwd)
    try:
        out, err = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return Result(process.returncode, out, err)


@contextlib.contextmanager
def trials(attack: str, only: list[str]) -> Iterator[Mapping[str, Callable[[], Try]]]:
    """Yield functions that prepare the attack on each of these commands."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        os.environ["SOFTVQ_CACHE"] = str(folder / "cache")
        zygote = zygote_in(folder, os.getpid())

        def forked(*words: object, cwd: Path, **more: Any) -> Result:
            return zygote.run(*words, cwd=cwd, coarse=True, **more)

        start, begin = (as_a_shell if attack == "installed" else forked), (faults if attack == "faults" else kills)
        chosen = commands(save_blobs(folder / "blobs.npz"), 3 if attack == "faults" else 12)

        def attack_on(name: str) -> Try:
            return begin(Trial(start, chosen[name], folder / name))

        yield {name: functools.partial(attack_on, name) for name in chosen if name in only}


# ---- counts


@dataclass
class Counts:
    """The attempts on one command or kind of file so far."""

    tries: int = 0
    seconds: float = 0.0
    over: bool = False
    outcomes: Counter[str] = field(default_factory=Counter)


class State:
    """All counts of an attack, stored in a file if one is given."""

    def __init__(self, path: Path | None, attack: str) -> None:
        self.path, self.attack = path, attack
        self.all = json.loads(path.read_text()) if path is not None and path.exists() else {}
        self.counts = {
            name: Counts(**{**value, "outcomes": Counter(value["outcomes"])})
            for name, value in self.all.get(attack, {}).items()
        }

    def save(self) -> None:
        self.all[self.attack] = {name: vars(counts) for name, counts in self.counts.items()}
        kind = f"{self.attack}: most memory in GiB"
        memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        self.all[kind] = max(self.all.get(kind, 0.0), round(memory / (1 << 20), 2))
        if self.path is not None:
            self.path.with_suffix(".new").write_text(json.dumps(self.all, indent=1))
            self.path.with_suffix(".new").replace(self.path)

    def show(self) -> None:
        rows = []
        for name, counts in self.counts.items():
            text = ", ".join(f"{outcome} {count}" for outcome, count in sorted(counts.outcomes.items()))
            rows.append([name, f"{counts.outcomes.total()}{' (all)' * counts.over}", f"{counts.seconds:.0f}", text])
        print(table(["on", "times", "seconds", "what came of it"], rows))
        total = sum(counts.outcomes.total() for counts in self.counts.values())
        print(f"\n{total} in all; most memory: {self.all.get(f'{self.attack}: most memory in GiB', 0)} GiB")


def share(kinds: Mapping[str, Callable[[], Try]], state: State, seconds: float) -> None:
    """For ``seconds``, attack the kinds that had the least time so far."""
    end, begun = time.monotonic() + seconds, dict[str, Try]()
    for name in kinds:
        state.counts.setdefault(name, Counts())
    while time.monotonic() < end:
        left = [name for name in kinds if not state.counts[name].over]
        if not left:
            break
        name = min(left, key=lambda name: state.counts[name].seconds)
        counts = state.counts[name]
        if name not in begun:
            begun[name] = kinds[name]()
        began = time.monotonic()
        outcomes = begun[name](counts.tries)
        counts.seconds += time.monotonic() - began
        counts.tries += 1
        counts.over = outcomes is None
        counts.outcomes.update(outcomes or ())
        state.save()


def main() -> int:
    attacks = ("kills", "installed", "faults", "mutations")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description="Attacks on the program.")
    parser.add_argument("attack", choices=attacks)
    parser.add_argument("--seconds", type=float, default=600, help="how long; 0 shows the counts")
    parser.add_argument("--state", type=Path, help="a file of counts; the next call goes on from them")
    names = [*commands(Path(), 0)]
    parser.add_argument("--only", nargs="+", default=names, choices=names, help="the commands; all unless given")
    chosen = parser.parse_args()
    state = State(chosen.state, chosen.attack)
    if chosen.seconds > 0:
        context = mutated() if chosen.attack == "mutations" else trials(chosen.attack, chosen.only)
        with context as kinds:
            share(kinds, state, chosen.seconds)
    state.show()
    return 0


if __name__ == "__main__":
    sys.exit(main())
