"""``python -m benchmarks``: write the results as Markdown to standard output."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import ceilings, evaluation, gpu, load, operators, scale, scaling, sizes, step, threads
from benchmarks.setting import Setting
from benchmarks.timing import CLOCKS
from softvq_cli.errors import UsageError

SECTIONS: dict[str, Callable[[Setting], str | Iterator[str]]]
"""Section → function that returns its results as Markdown, or yields them line by line if it takes minutes."""
SECTIONS = {"floor": ceilings.section, "operators": operators.section, "step": step.section, "gpu": gpu.section}
SECTIONS |= {"clustering": evaluation.clustering_section, "probe": evaluation.probe_section}
SECTIONS |= {"tsne": evaluation.tsne_section, "scaling": scaling.section, "scale": scale.section, "load": load.section}
SECTIONS |= {"threads": threads.section, "sizes": sizes.section}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed, as markdown.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all unless given")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, only to see that everything runs")
    parser.add_argument("--rounds", type=int, help="how often all contenders take their turn")
    parser.add_argument("--threads", type=int, help="threads of every library; all cores unless given")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: processor time, for a busy machine")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {unknown[0]!r}: choose from {', '.join(SECTIONS)}")
    try:
        setting = Setting.of(chosen.quick, chosen.rounds, chosen.threads, chosen.clock, chosen.device)
    except UsageError as error:
        parser.error(str(error))
    if "gpu" in chosen.sections and setting.device.type != "cuda":
        print("benchmarks: gpu needs a GPU with CUDA, and PyTorch finds none here", file=sys.stderr)
        sys.exit(1)
    print(setting.describe(), flush=True)
    for name in chosen.sections or SECTIONS:
        print()
        found = SECTIONS[name](setting)
        for part in (found,) if isinstance(found, str) else found:
            print(part, flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
