"""Compare ways to train one checkpoint for every keep ratio, and write ``docs/elastic.md``'s table.

Each variant trains a small network on the bundled model's task for the same time, one process and
one thread each, counted on the processor so that runs may stand beside other work, and is measured
on windows from reserved seeds. Its figures go to ``docs/elastic``, a file for each run, and from
there into the table. A run that is done is not repeated, so the comparison can be spread over
days::

    pip install --group train-default-model
    python tools/compare_elastic.py RUNS --minutes 20 --seeds 3 --at-once 2
    python tools/compare_elastic.py --table
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from brain.atlas import build_atlas, training_t1s
from brain.people import SPACING_MM, atlas_anatomy
from brain.structures import CLASS_COUNT
from brain.synthesis import VALIDATION_SEED, Synthesizer
from napari_tokensparse.model.controls import control_scores
from napari_tokensparse.model.noise import keyed_generator
from napari_tokensparse.model.presets import LITE, preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.scoring.metrics import dice_per_class
from napari_tokensparse.training.loop import TrainSetup, train
from napari_tokensparse.training.state import averaged_weights, counters
from napari_tokensparse.training.trainconfig import TrainConfig
from train_default_model import frequency_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[1] / "docs" / "elastic.md"
FIGURES = PAGE.with_suffix("")
KEEP_RATIOS = (1.0, 0.5, 0.25, 0.1)
# The layout of the bundled model when the runs were made.
EARLIER: dict[str, Any] = {
    "patch_size": 8,
    "depth": 12,
    "prune_after": (0, 3, 6),
    "completion_dim": 120,
    "completion_positions": True,
    "decoder": "unetr-x8-v2",
    "crop_value": None,
}
SMALL: dict[str, Any] = {"embed_dim": 96, "completion_dim": 96, "feature_size": 8}
PAPER = {
    "prune_after": (2, 5, 8),
    "completion": "mta",
    "embedding": "linear",
    "forgotten_stages": 0,
    "perturbation": "gumbel",
    "relaxation": "softmax",
    "tau": 1.0,
}
THRESHOLD = {**PAPER, "perturbation": "none", "relaxation": "threshold", "tau": 0.5}
RANDOM: dict[str, Any] = {"keep_range": (0.05, 1.0)}
DISTILLED = {**RANDOM, "sandwich": 0.25, "distillation": 0.5}
SUPERVISED = {**DISTILLED, "score_weight": 0.2}
# What it is called, and what is changed in the network and in its training.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fixed 0.25 (the paper's)": (PAPER, {"keep_range": (0.25, 0.25)}),
    "random ratio": (PAPER, RANDOM),
    "+ distillation": (PAPER, DISTILLED),
    "+ score supervision": (PAPER, SUPERVISED),
    "+ threshold gradient": (THRESHOLD, SUPERVISED),
    "+ lite layout": (
        {**THRESHOLD, **LITE, "feature_size": SMALL["feature_size"] // 2},
        SUPERVISED,
    ),
    "the bundled model's layout": ({}, SUPERVISED),
}
TABLE = ("<!-- table -->\n", "<!-- end of table -->")


def one_run(folder: Path, variant: str, seed: int, minutes: float, cases: int) -> None:
    """Train one variant and write its figures."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    network, training = VARIANTS[variant]
    model = SCD(preset("brain-structures", **{**EARLIER, **SMALL, **network}))
    labels, _ = build_atlas()
    t1s = [t1 for _, t1, _ in training_t1s()]
    sampler = Synthesizer(labels, t1s, model.config.window, SPACING_MM)
    config = TrainConfig(
        max_minutes=minutes, lr=2e-3, schedule="cosine", checkpoint_every=100, seed=seed, **training
    )
    weights = frequency_weights([atlas_anatomy()], power=-0.5)
    setting = TrainSetup(sampler, folder, class_weights=weights, clock=time.process_time)
    for _ in train(model, config, setting):
        pass
    model.load_state_dict(averaged_weights(folder))
    figures = {
        "variant": variant,
        "seed": seed,
        "minutes": minutes,
        "steps": counters(folder).step,
        "dice": measured(model.eval(), sampler, cases),
    }
    FIGURES.mkdir(exist_ok=True)
    (FIGURES / f"{folder.name}.json").write_text(json.dumps(figures, indent=1) + "\n")


def measured(model: SCD, sampler: Synthesizer, cases: int) -> dict[str, dict[str, float]]:
    """Mean Dice per scorer and keep ratio, on the network's own grid."""
    settings = [("learned", keep) for keep in KEEP_RATIOS]
    settings += [(by, keep) for by in ("random", "intensity") for keep in KEEP_RATIOS[2:]]
    settings += [("encoder ablated", 1.0)]
    scores: dict[str, dict[str, list[float]]] = {}
    for number in range(cases):
        sample = sampler.sample(VALIDATION_SEED, number)
        for scorer, keep in settings:
            labels = _labels(model, sample.image[None], scorer, keep, number)
            dice = dice_per_class(labels, sample.labels.numpy(), range(1, CLASS_COUNT))
            by_ratio = scores.setdefault(scorer, {})
            by_ratio.setdefault(f"{keep:g}", []).append(float(np.nanmean(dice)))
    return {by: {k: float(np.mean(d)) for k, d in ratios.items()} for by, ratios in scores.items()}


def _labels(
    model: SCD, image: torch.Tensor, scorer: str, keep_ratio: float, number: int
) -> np.ndarray:
    ablated = scorer == "encoder ablated"
    by: Any = "learned" if ablated else scorer
    patch, generator = model.config.patch_size, keyed_generator(0, number)
    scores = control_scores(by, image, patch, 0.0, generator)
    with torch.inference_mode():
        out = model(image, keep_ratio, token_scores=scores, skip_blocks=ablated)
    return np.asarray(out.logits[0].argmax(dim=0).numpy().astype(np.uint8))


def folder_of(runs: Path, variant: str, seed: int) -> Path:
    """Where a run lies."""
    name = "".join(c if c.isalnum() else "-" for c in variant).strip("-")
    return runs / f"{name}-{seed}"


def all_runs(runs: Path, minutes: float, seeds: int, cases: int, at_once: int) -> None:
    """Start what is not done yet, some at a time, each in a process of its own."""
    waiting = [
        [str(Path(__file__)), str(runs), "--one", variant, "--seed", str(seed)]
        for seed, variant in product(range(seeds), VARIANTS)
        if not (FIGURES / f"{folder_of(runs, variant, seed).name}.json").exists()
    ]
    running: list[subprocess.Popen[bytes]] = []
    while waiting or running:
        while waiting and len(running) < at_once:
            command = [sys.executable, *waiting.pop(0)]
            print(" ".join(command[2:]), flush=True)
            command += ["--minutes", str(minutes), "--cases", str(cases)]
            running.append(subprocess.Popen(command))
        running.pop(0).wait()


def table() -> Iterator[str]:
    """Yield the lines of the table: the mean over the seeds, and their spread."""
    done = [json.loads(path.read_text()) for path in sorted(FIGURES.glob("*.json"))]
    heads = [f"keep {keep:g}" for keep in KEEP_RATIOS]
    heads += [f"{by} {keep:g}" for by in ("random", "intensity") for keep in KEEP_RATIOS[2:]]
    heads += ["encoder ablated"]
    yield "| variant | runs | steps | " + " | ".join(heads) + " |"
    yield "|---|---|---|" + "---|" * len(heads)
    for variant in VARIANTS:
        mine = [figures for figures in done if figures["variant"] == variant]
        if not mine:
            continue
        cells = [("learned", keep) for keep in KEEP_RATIOS]
        cells += [(by, keep) for by in ("random", "intensity") for keep in KEEP_RATIOS[2:]]
        cells += [("encoder ablated", 1.0)]
        values = [[f["dice"][by][f"{keep:g}"] for f in mine] for by, keep in cells]
        shown = [_spread(dice) for dice in values]
        steps = round(float(np.mean([f["steps"] for f in mine])))
        yield f"| {variant} | {len(mine)} | {steps} | " + " | ".join(shown) + " |"
    minutes = sorted({figures["minutes"] for figures in done})
    yield f"\nMinutes of training per run: {', '.join(f'{m:g}' for m in minutes)}."


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def write_table() -> None:
    """Put the table into the page, between its marks."""
    before, rest = PAGE.read_text().split(TABLE[0])
    after = rest.split(TABLE[1])[1]
    PAGE.write_text(before + TABLE[0] + "\n".join(table()) + "\n" + TABLE[1] + after)


def main() -> None:
    """Run, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="?", help="where training states are kept")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="write docs/elastic.md's table")
    parser.add_argument("--one", choices=VARIANTS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    runs = arguments.runs
    if arguments.table:
        write_table()
    elif runs is None:
        parser.error("name a folder for the training states, or --table")
    elif arguments.one:
        folder = folder_of(runs, arguments.one, arguments.seed)
        one_run(folder, arguments.one, arguments.seed, arguments.minutes, arguments.cases)
    else:
        all_runs(runs, arguments.minutes, arguments.seeds, arguments.cases, arguments.at_once)


if __name__ == "__main__":
    main()
