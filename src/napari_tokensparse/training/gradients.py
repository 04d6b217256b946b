"""The loss of a step's windows, and its gradients."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch

from napari_tokensparse.model.noise import keyed_generator
from napari_tokensparse.training.elastic import (
    make_distillation,
    patch_shares,
    random_pins,
    rule_of_pass,
    score_loss,
    token_targets,
)
from napari_tokensparse.training.losses import make_loss, share_entropy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accelerate import Accelerator
    from torch import Tensor, nn

    from napari_tokensparse.model.ratios import Importance
    from napari_tokensparse.model.scd import SCD, SCDOutput
    from napari_tokensparse.training.loading import Window
    from napari_tokensparse.training.trainconfig import TrainConfig

# Streams of random numbers beside the sampler's, which is keyed by (seed, index) alone.
_NOISE, _PINS, _RULE = 2, 3, 4


class Gradients:
    """Runs the windows of a step and adds up the gradients of their loss.

    Parameters
    ----------
    model
        The network; ``wrapped`` is what Accelerate made of it.
    accelerator
        Where it is run.
    config
        Of the training.
    class_weights
        ``(K,)`` weights of the classes in the cross-entropy, or None.
    """

    def __init__(
        self,
        model: SCD,
        wrapped: nn.Module,
        accelerator: Accelerator,
        config: TrainConfig,
        class_weights: Tensor | None,
    ) -> None:
        self._model, self._wrapped, self._accelerator = model, wrapped, accelerator
        self._config, self._class_weights = config, class_weights
        self._loss_of = make_loss(config.loss, class_weights)
        self._distilled = make_distillation(config.loss, class_weights)
        self._tokens_of = partial(
            token_targets,
            patch_size=model.config.patch_size,
            classes=model.config.out_channels,
        )

    def add(self, volumes: list[tuple[int, Sequence[Window]]], ratios: tuple[float, ...]) -> float:
        """Add up the gradients of a step's windows, some at a time; return their mean loss."""
        config, device = self._config, self._accelerator.device
        windows = [
            (image, target, keyed_generator(config.seed, index, _NOISE, n), (index, _PINS, n))
            for index, pairs in volumes
            for n, (image, target) in enumerate(pairs)
        ]
        total = torch.zeros((), device=device)
        for at in range(0, len(windows), config.micro_batch):
            images, targets, noise, keys = zip(*windows[at : at + config.micro_batch], strict=True)
            batch = (torch.stack(images).to(device), torch.stack(targets).to(device), noise)
            pins = self._pins(batch[1], [keyed_generator(config.seed, *key) for key in keys])
            rules = self._rules(ratios, keyed_generator(config.seed, windows[at][3][0], _RULE, at))
            share, last = len(images) / len(windows), at + config.micro_batch >= len(windows)
            teacher: Tensor | None = None
            for n, rule in enumerate(rules, start=1):
                synced = last and n == len(rules)
                with nullcontext() if synced else self._accelerator.no_sync(self._wrapped):
                    loss, logits = self._loss(batch, rule, pins, teacher)
                    self._accelerator.backward(loss * (share / len(ratios)))
                total += loss.detach() * (share / len(ratios))
                teacher = logits.detach() if teacher is None else teacher
        return float(total)

    def _loss(
        self,
        batch: tuple[Tensor, Tensor, Sequence[torch.Generator]],
        rule: float | Importance,
        pins: Tensor | None,
        teacher: Any,
    ) -> tuple[Tensor, Tensor]:
        """Run windows by a rule: their mean loss, and the logits."""
        config, (images, targets, noise) = self._config, batch
        with self._accelerator.autocast():
            out: SCDOutput = self._wrapped(images, rule, noise, pins=pins)
        logits = out.inside.float()
        loss = self._loss_of(logits, targets if out.box is None else out.box.cut(targets))
        if teacher is not None:
            loss = torch.lerp(loss, self._distilled(logits, teacher), config.distillation)
        if config.score_weight:
            content, labelled = self._tokens_of(targets)
            loss = loss + config.score_weight * score_loss(out.trace, content, labelled)
        if out.token_logits is not None:
            loss = loss + config.token_weight * self._token_loss(out, targets)
        return loss, logits

    def _rules(
        self, ratios: tuple[float, ...], generator: torch.Generator
    ) -> list[float | Importance]:
        """Draw the rule of each pass of a step."""
        share, teachers = self._config.importance_share, len(ratios) > 1
        others = [rule_of_pass(ratio, share, generator) for ratio in ratios[teachers:]]
        return [*ratios[:teachers], *others]

    def _pins(self, targets: Tensor, generators: Sequence[torch.Generator]) -> Tensor | None:
        """Draw the pins of some windows; None where no token is pinned."""
        share, grid = self._config.pin_share, self._model.config.grid
        if not share:
            return None
        content, _ = self._tokens_of(targets)
        drawn = zip(content, generators, strict=True)
        pins = torch.stack([random_pins(held, grid, share, source) for held, source in drawn])
        return pins if pins.any() else None

    def _token_loss(self, out: SCDOutput, targets: Tensor) -> Tensor:
        """Cross-entropy of the token head with the classes' shares of each patch."""
        config, logits = self._model.config, cast("Tensor", out.token_logits)
        shares, _ = patch_shares(targets, config.patch_size, config.out_channels)
        if out.box is not None:
            shares = shares[..., out.box.ids(shares.device)]
        logs, rows = logits.float().log_softmax(dim=2).flatten(0, 1), shares.transpose(1, 2)
        return share_entropy(logs, rows.flatten(0, 1), self._class_weights)


def add_token_head(model: SCD) -> None:
    """Give a network the linear head that only training has, unless it is there."""
    if model.token_head is None:
        model.token_head = torch.nn.Linear(model.config.embed_dim, model.config.out_channels)
