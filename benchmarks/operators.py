"""The time of a training step by PyTorch operator."""

from __future__ import annotations

from torch.profiler import ProfilerActivity, profile

from benchmarks.models import session, training
from benchmarks.setting import Setting
from benchmarks.timing import table

CASES = (("mnist", "soft-vq", 32), ("mnist", "soft-vq", 1024), ("svhn", "soft-vq", 32))
QUICK = (("mnist", "soft-vq", 4),)
KINDS = {
    "matrix products": ("mm", "addmm", "bmm"),
    "convolutions": ("_convolution", "convolution_backward", "mkldnn_convolution"),
    "Adam": ("_fused_adam_",),
}
"""Group of operators → their names without ``aten::``; all others are "everything else"."""


def section(setting: Setting) -> str:
    if setting.device.type != "cpu":
        return "## Where the time goes\n\nNot measured: it is profiled on the CPU."
    rows = [
        [f"{data}, {bottleneck}, batch {batch}", *_shares(setting, data, bottleneck, batch)]
        for data, bottleneck, batch in (QUICK if setting.quick else CASES)
    ]
    text = "Fraction of a step's time by operator, from `torch.profiler` (its own cost is in the last column)."
    return "\n".join(["## Where the time goes", "", text, "", table(["preset", *KINDS, "everything else"], rows)])


def _shares(setting: Setting, data: str, bottleneck: str, batch: int) -> list[str]:
    one = session(data, setting, bottleneck=bottleneck, batch_size=batch)
    steps = 1 if setting.quick else max(4, 640 // batch)
    take = training(one)
    take(2)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        take(steps)
    spent = {event.key.removeprefix("aten::"): event.self_cpu_time_total for event in profiler.key_averages()}
    total = sum(spent.values())
    shares = [sum(spent.get(name, 0.0) for name in names) / total for names in KINDS.values()]
    return [f"{100 * share:.0f} %" for share in (*shares, 1 - sum(shares))]
