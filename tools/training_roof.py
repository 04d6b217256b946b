"""Show where a training step's time goes, and how near to the saving in MACs it could come.

A pruned step saves time as it saves multiply-accumulates only as far as it consists of them, so
every operation of a step is timed by torch's profiler, pruned and dense, and put under what it is.
*Roof* is the saving in time, by that in MACs, if products and convolutions ran at the dense step's
rate and all else took as long as it does: what is below it is lost in products, what lies between
it and 1 in all else::

    python tools/training_roof.py --preset btcv --keep-ratios 0.1,1 --json roof.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

from napari_tokensparse.benchmarks.macs import step_gmacs
from napari_tokensparse.benchmarks.networks import dense_of
from napari_tokensparse.benchmarks.training import Trainee
from napari_tokensparse.compute.allocation import kept_memory
from napari_tokensparse.compute.machine import describe_machine
from napari_tokensparse.model.presets import preset

PRODUCTS = "products and convolutions"
KINDS: dict[str, tuple[str, ...]] = {
    PRODUCTS: ("mm", "conv", "linear", "scaled_dot_product", "matmul"),
    "norms": ("norm", "var_mean", "moments"),
    "copies and layout": ("copy", "clone", "contiguous", "cat", "pad", "fill", "zero", "empty"),
    "gather and scatter": ("index", "gather", "scatter", "sort", "topk", "select"),
    "optimiser": ("adam", "foreach", "Optimizer"),
}
"""What names of operations begin or go on with, in the order in which they are asked."""
OTHER = "elementwise, sums and the rest"


def kind_of(operation: str) -> str:
    """Return what an operation is put under."""
    name = operation.removeprefix("aten::")
    for kind, parts in KINDS.items():
        if any(part in name for part in parts):
            return kind
    return OTHER


def step_by_kind(trainee: Trainee, keep_ratio: float) -> dict[str, float]:
    """Time one step after one that warms up: seconds of the processor by kind of operation.

    What else the machine does makes every kind longer alike, so the profiler gives the shares.
    """
    trainee.step(keep_ratio)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        began = time.process_time()
        trainee.step(keep_ratio)
        taken = time.process_time() - began
    spent: Counter[str] = Counter()
    for event in profiler.key_averages():
        spent[kind_of(event.key)] += event.self_cpu_time_total
    return {kind: taken * each / spent.total() for kind, each in spent.items()}


def roof(pruned: dict[str, Any], dense: dict[str, Any]) -> dict[str, float]:
    """Set a pruned step beside the dense one: its saving by that in MACs, and the roof of it."""
    fewer = dense["gmacs"] / pruned["gmacs"]
    spent, whole = pruned["seconds"], sum(dense["seconds"].values())
    at_dense_rate = dense["seconds"][PRODUCTS] / fewer
    others = sum(spent.values()) - spent[PRODUCTS]
    return {
        "time ratio / MAC ratio": whole / sum(spent.values()) / fewer,
        "roof": whole / (at_dense_rate + others) / fewer,
    }


def measured(name: str, ratios: list[float]) -> dict[str, Any]:
    """Measure a preset, dense and at each keep ratio."""
    config = preset(name)
    with kept_memory():
        trainee, cases = Trainee(dense_of(config)), []
        seconds = step_by_kind(trainee, 1.0)
        whole = {"seconds": seconds, "gmacs": step_gmacs(trainee.model.config, 1.0)}
        trainee = Trainee(config)
        for ratio in ratios:
            seconds = step_by_kind(trainee, ratio)
            case = {"keep_ratio": ratio, "seconds": seconds, "gmacs": step_gmacs(config, ratio)}
            cases.append({**case, **roof(case, whole)})
    return {"machine": describe_machine(), "preset": name, "dense": whole, "pruned": cases}


def shown(figures: dict[str, Any]) -> list[str]:
    """Lay the figures out as a table in Markdown."""
    kinds = sorted(figures["dense"]["seconds"], key=lambda k: -figures["dense"]["seconds"][k])
    heads = ["keep ratio", *kinds, "time ratio / MAC ratio", "roof"]
    rows = [["dense", *(f"{figures['dense']['seconds'][kind]:.2f}" for kind in kinds), "1.00", "–"]]
    for case in figures["pruned"]:
        seconds = [f"{case['seconds'].get(kind, 0.0):.2f}" for kind in kinds]
        ratios = [f"{case[name]:.2f}" for name in heads[-2:]]
        rows.append([f"{case['keep_ratio']:g}", *seconds, *ratios])
    return ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows)]


def main() -> None:
    """Measure, print a table, and write the figures if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", default="btcv")
    parser.add_argument("--keep-ratios", default="0.1,1")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures = measured(given.preset, [float(each) for each in given.keep_ratios.split(",")])
    print("\n".join(shown(figures)))
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
