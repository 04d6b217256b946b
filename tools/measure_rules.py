"""Compare the two rules of pruning, and write figures and a picture for the documentation.

A small network is trained on phantoms of CT for some minutes, with a keep ratio drawn anew at each
step, and unseen phantoms of many windows are segmented by a share of the tokens and by importance::

    python tools/measure_rules.py RUN --minutes 8        # goes on where it stopped
    python tools/measure_rules.py --picture            # of the figures that there are

Minutes are the process's own. A point of the share's curve is a keep ratio, one of importance's a
least importance: both stand over the mean share of tokens past the first stage. `docs/lesions.md`
compares them on lesions.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure

from bundled_training import CONFIG as SHARED
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.noise import keyed_generator
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.scoring.metrics import dice
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.training.events import StepDone
from napari_tokensparse.training.loop import TrainSetup, train
from napari_tokensparse.training.state import averaged_weights
from napari_tokensparse.volumes.volume import Volume
from torso.phantoms import SHAPE, SPACING_MM, Phantom, phantom

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DOCS = Path(__file__).parents[1] / "docs"
FIGURES, PICTURE = DOCS / "rules/phantoms.json", DOCS / "images/rules.png"
SEEN, UNSEEN = range(24), range(1000, 1004)
"""Seeds of the phantoms to train on, and of those that are measured."""
SHARES = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03)
LEASTS = (0.005, 0.01, 0.012, 0.014, 0.017, 0.02, 0.05, 0.2)
WINDOW = (48, 48, 48)
CONFIG = preset(
    "ms-lesions",
    window=WINDOW,
    decoder="coarse-to-fine",
    patch_size=4,
    embed_dim=64,
    completion_dim=64,
    depth=4,
    prune_after=(0, 2),
    keep_ratio=(0.5, 0.5),
    crop_value=None,
)
INFO = ModelInfo(
    name="phantoms",
    channels=("CT",),
    classes=(LabelClass(value=1, name="lesion", color=(220, 60, 60)),),
    overlap=0.25,
)
TRAINING = SHARED.model_copy(update={"lr": 3e-3, "keep_range": (0.05, 1.0), "score_weight": 1.0})
CLASS_WEIGHTS = torch.tensor([1.0, 3.0])


class Windows:
    """Cuts windows out of phantoms, half of them at a lesion; a `Sampler` of the training loop.

    Parameters
    ----------
    phantoms
        To cut from.
    """

    def __init__(self, phantoms: Sequence[Phantom]) -> None:
        self._phantoms = phantoms

    def windows(self, seed: int, index: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Cut the window of a key."""
        rng = keyed_generator(seed, index)
        number, at_lesion = torch.randint(2**31, (2,), generator=rng).tolist()
        image, lesions = self._phantoms[number % len(self._phantoms)]
        most = np.array(SHAPE) - WINDOW
        first = (torch.rand(3, generator=rng).numpy() * (most + 1)).astype(int)
        if at_lesion % 2:
            places = np.argwhere(lesions)
            middle = places[int(torch.randint(len(places), (), generator=rng))]
            moved = torch.randint(-16, 17, (3,), generator=rng).numpy()
            first = np.clip(middle + moved - np.array(WINDOW) // 2, 0, most)
        where = tuple(slice(f, f + n) for f, n in zip(first, WINDOW, strict=True))
        labels = torch.from_numpy(lesions[where].astype(np.int64))
        return [(torch.from_numpy(scaled(image[where]))[None], labels)]


def scaled(image: np.ndarray) -> np.ndarray:
    """Bring Hounsfield units to about -3 to 3."""
    return np.clip((image + 100) / 300, -3, 3).astype(np.float32)


def trained(folder: Path, minutes: float, device: str) -> SCD:
    """Train for some minutes, from the checkpoint if there is one."""
    torch.manual_seed(0)
    config = TRAINING.model_copy(update={"max_minutes": minutes})
    sampler = Windows([phantom(seed) for seed in SEEN])
    setting = TrainSetup(
        sampler, folder, device=device, class_weights=CLASS_WEIGHTS, clock=time.process_time
    )
    losses = []
    for event in train(SCD(CONFIG), config, setting):
        if isinstance(event, StepDone):
            losses.append(event.loss)
            if len(losses) % 200 == 0:
                print(f"step {event.step}: loss {np.mean(losses[-200:]):.4f}", flush=True)
    model = SCD(CONFIG, INFO).eval()
    model.load_state_dict(averaged_weights(folder))
    return model


def measured(model: SCD) -> Iterator[dict[str, Any]]:
    """Segment the unseen phantoms by both rules."""
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    for seed in UNSEEN:
        image, lesions = phantom(seed)
        scan = Volume(scaled(image)[None], affine, f"phantom {seed}")
        ways: list[tuple[str, float]] = [("share", s) for s in SHARES]
        ways += [("importance", least) for least in LEASTS]
        for rule, setting in ways:
            importance = setting if rule == "importance" else None
            keep_ratio = None if importance else setting
            result = segment(scan, model, keep_ratio, importance=importance)
            tokens = result.stats.tokens
            past = (tokens["processed"] - tokens["pruned at 1"]) / tokens["processed"]
            figure = {
                "phantom": seed,
                "rule": rule,
                "setting": setting,
                "tokens": past,
                "dice": dice(result.labels > 0, lesions),
                "seconds": result.stats.seconds["network"],
            }
            print(*(f"{k} {v:.3g}" if k != "rule" else v for k, v in figure.items()), flush=True)
            yield figure


def curve(figures: list[dict[str, Any]], rule: str) -> list[tuple[float, float, float]]:
    """Mean tokens, Dice and seconds of each setting of a rule, from the fewest tokens on."""
    points = []
    for setting in {f["setting"] for f in figures if f["rule"] == rule}:
        of = [f for f in figures if (f["rule"], f["setting"]) == (rule, setting)]
        tokens, score, seconds = (
            np.mean([f[k] for f in of]) for k in ("tokens", "dice", "seconds")
        )
        points.append((float(tokens), float(score), float(seconds)))
    return sorted(points)


def draw(path: Path, figures: list[dict[str, Any]]) -> None:
    """Draw both curves over the mean share of tokens, and over the seconds."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    by_tokens, by_time = figure.subplots(1, 2, sharey=True)
    for rule, mark in (("share", "o-"), ("importance", "*-")):
        tokens, scores, seconds = zip(*curve(figures, rule), strict=True)
        by_tokens.plot(100 * np.array(tokens), scores, mark, label=rule)
        by_time.plot(seconds, scores, mark, label=rule)
    by_tokens.set_xscale("log")
    by_tokens.set(xlabel="tokens past the first stage, % (mean)", ylabel="Dice", ylim=(0, 1))
    by_time.set(xlabel="network, s", xlim=(0, None))
    by_tokens.legend(frameon=False, loc="lower right")
    for axes in (by_tokens, by_time):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="of the training run")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N")
    parser.add_argument("--picture", action="store_true", help="only draw what was measured")
    arguments = parser.parse_args()
    if not arguments.picture:
        if arguments.folder is None:
            parser.error("RUN: name the folder of the training run")
        model = trained(arguments.folder, arguments.minutes, arguments.device)
        FIGURES.parent.mkdir(parents=True, exist_ok=True)
        FIGURES.write_text(json.dumps(list(measured(model)), indent=1) + "\n")
    draw(PICTURE, json.loads(FIGURES.read_text()))


if __name__ == "__main__":
    main()
