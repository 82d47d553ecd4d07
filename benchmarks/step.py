"""A training step beside the same step in other loops."""

from __future__ import annotations

import numpy as np

from benchmarks import peers
from benchmarks.models import session, training
from benchmarks.setting import Setting
from benchmarks.timing import in_turn, ratio, table

OURS = "softvq, float32"
CASES = (("mnist", "soft-vq", 32), ("mnist", "soft-vq", 64), ("mnist", "ae", 32), ("svhn", "soft-vq", 32))
QUICK = (("mnist", "soft-vq", 4),)


def section(setting: Setting) -> str:
    blocks = ["## A training step beside other loops", "", "Same model, same loss, same images, in turn."]
    for data, bottleneck, batch in QUICK if setting.quick else CASES:
        blocks += ["", f"### {data}, {bottleneck}, batch {batch}", "", _case(setting, data, bottleneck, batch)]
    return "\n".join(blocks)


def _case(setting: Setting, data: str, bottleneck: str, batch: int) -> str:
    steps = 2 if setting.quick else 10
    if setting.device.type == "cuda" and not setting.quick:
        steps = 200
    settings = {"bottleneck": bottleneck, "batch_size": batch}
    ours = session(data, setting, **settings)
    low = session(data, setting, precision="bfloat16", **settings)
    take, take_low = training(ours), training(low)
    contenders = {
        OURS: lambda: take(steps),
        "softvq, bfloat16": lambda: take_low(steps),
        "plain loop, fused Adam": peers.eager(ours, steps, fused=True),
        "plain loop, Adam": peers.eager(ours, steps, fused=False),
        "DataLoader, Adam": peers.data_loader(ours, steps),
    }
    trainer = peers.pythae(ours, steps)
    if trainer:
        contenders["pythae's trainer"] = trainer
    seconds = in_turn(contenders, setting.rounds, setting.clock)
    rows = [
        [name, f"{np.median(own) / steps * 1e3:.2f}", f"{steps / np.median(own):.1f}", ratio(own, seconds[OURS])]
        for name, own in seconds.items()
    ]
    missing = "" if trainer else "\n\nNot measured: pythae is not installed."
    return table(["loop", "ms a step", "steps a second", "times softvq's"], rows) + missing
