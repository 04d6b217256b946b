"""What the scripts of the bundled models share: a training run, its options, lines and weights."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file

from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.training.events import StepDone
from napari_tokensparse.training.loop import TrainSetup, train
from napari_tokensparse.training.state import averaged_weights, counters
from napari_tokensparse.training.trainconfig import TrainConfig

if TYPE_CHECKING:
    from napari_tokensparse.training.loop import Sampler

CONFIG = TrainConfig(
    max_minutes=1.0,
    lr=2e-3,
    betas=(0.9, 0.99),
    warmup_steps=50,
    schedule="constant",
    cooldown=0.5,
    keep_range=(0.07, 1.0),
    score_weight=0.2,
    token_weight=0.5,
    pin_share=0.25,
    ema_decay=0.998,
    checkpoint_minutes=1.0,
)
ON_GPU = {"batch_size": 8, "micro_batch": 8}
_PRINTED_EVERY = 50


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser of the options that both scripts have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path, help="where the checkpoint lies")
    parser.add_argument("--people", type=Path, required=True, help="folder of the label maps")
    parser.add_argument("--minutes", type=float, required=True, help="of the whole run")
    parser.add_argument("--stop-after", type=float, metavar="MIN", help="end this call then")
    parser.add_argument("--steps", type=int, help="end the run after so many, if that is sooner")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N")
    parser.add_argument("--start-from", type=Path, help="a model.safetensors of this network")
    said = "of the samples; a run that starts from an earlier one needs another, to see new ones"
    parser.add_argument("--seed", type=int, default=CONFIG.seed, help=said)
    parser.add_argument("--lr", type=float, default=CONFIG.lr, help="step size after the warm-up")
    return parser


def train_and_print(
    name: str,
    sampler: Sampler,
    config: TrainConfig,
    class_weights: torch.Tensor,
    arguments: argparse.Namespace,
) -> None:
    """Train the network of a preset for some minutes, printing the mean loss now and then."""
    asked = {"steps": arguments.steps, "seed": arguments.seed, "lr": arguments.lr}
    config = config.model_copy(update={"max_minutes": arguments.minutes, **asked})
    torch.manual_seed(config.seed)
    torch.set_flush_denormal(True)  # the background is exactly 0 and its gradients vanish
    model = SCD(preset(name))
    if arguments.start_from:
        model.load_state_dict(load_file(arguments.start_from))
    end = time.monotonic() + 60 * (arguments.stop_after or 1e9)
    setting = TrainSetup(
        sampler,
        arguments.folder,
        device=arguments.device,
        class_weights=class_weights,
        stop=lambda: time.monotonic() > end,
    )
    losses: list[float] = []
    for event in train(model, config, setting):
        if not isinstance(event, StepDone):
            continue
        losses.append(event.loss)
        if event.step % _PRINTED_EVERY == 0 or event.share >= 1:
            minutes = event.share * arguments.minutes
            print(
                f"step {event.step}: loss {np.mean(losses):.4f}, lr {event.lr:.2g}, "
                f"{minutes:.1f} min",
                flush=True,
            )
            losses.clear()


def weights_of(run: Path, average: Path | None) -> tuple[dict[str, torch.Tensor], str]:
    """Return the weights of a run, averaged over its steps, and say what they are.

    Parameters
    ----------
    run
        Folder of the run, or a ``model.safetensors``.
    average
        Another folder or file, with whose weights the mean is taken.
    """
    if run.is_file():
        weights, said = load_file(run), "weights as before"
    else:
        weights, said = averaged_weights(run), f"weights after step {counters(run).step}"
    if average is None:
        return weights, said
    others, of_others = weights_of(average, None)
    mean = {name: (value.float() + others[name].float()) / 2 for name, value in weights.items()}
    return mean, f"mean of {said} and {of_others}"
