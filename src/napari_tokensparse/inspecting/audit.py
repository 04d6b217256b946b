"""What pruning changed in a segmentation: voxels, classes, components, against keep ratio 1.0."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_tokensparse.common.tables import plain, write_csv, write_json
from napari_tokensparse.inspecting.components import changed_components
from napari_tokensparse.inspecting.progress import RunProgress, Setting
from napari_tokensparse.inspecting.runs import running_each
from napari_tokensparse.model.ratios import keep_ratios
from napari_tokensparse.scoring.masks import agreement, result_masks
from napari_tokensparse.segmenting.infer import SegmentError, check_fit, choose_device
from napari_tokensparse.volumes.region import Box

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from napari_tokensparse.common.tables import Cell
    from napari_tokensparse.inspecting.components import Component
    from napari_tokensparse.model.info import LabelClass, ModelInfo
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.infer import Segmentation
    from napari_tokensparse.volumes.volume import Volume

SAME, LOST, GAINED, CHANGED_CLASS = range(4)
DIFFERENCES = ("same", "lost", "gained", "another class")
"""What the values of ``Audit.difference`` mean."""


@dataclass(frozen=True)
class ClassAudit:
    """What pruning did to one class.

    Attributes
    ----------
    name, value
        Of the class.
    before_mm3, after_mm3
        Its volume without and with pruning.
    dice
        Agreement of the two, in 0..1; None where neither run finds the class.
    rebuilt
        Of its voxels with pruning, the share whose token was pruned at stage 1 … S: those the
        decoder rebuilt from an earlier look at the token. None where it has no voxel.
    kept, not_processed
        The share whose token was kept to the end, and the share outside all windows that were run.
    rebuilt_before
        As ``rebuilt``, of its voxels without pruning: it tells also of what was lost.
    """

    name: str
    value: int
    before_mm3: float
    after_mm3: float
    dice: float | None
    rebuilt: tuple[float, ...] | None
    kept: float | None
    not_processed: float | None
    rebuilt_before: tuple[float, ...] | None


@dataclass(frozen=True, eq=False)
class Audit:
    """What pruning changed in one volume.

    Attributes
    ----------
    model
        The model's name.
    keep_ratio
        Of each stage; where tokens were kept by their importance, the share that was kept.
    region
        The part of the volume, or None for all of it.
    difference
        ``(i, j, k)`` uint8: 0 same, 1 lost (of a class without pruning, background with it),
        2 gained (the other way round), 3 of another class.
    voxel_mm3
        Volume of a voxel.
    classes
        One per class of the model, in its order.
    components
        Those that shrank by more than 20 % or vanished, the largest loss first; then those that
        appeared, the largest first.
    """

    model: str
    keep_ratio: tuple[float, ...]
    region: Box | None
    difference: NDArray[np.uint8]
    voxel_mm3: float
    classes: tuple[ClassAudit, ...]
    components: tuple[Component, ...]

    def voxels(self) -> dict[str, int]:
        """Count the voxels of each difference."""
        counts = np.bincount(self.difference.ravel(), minlength=len(DIFFERENCES)).tolist()
        return dict(zip(DIFFERENCES, counts, strict=True))

    def components_to_csv(self, path: Path) -> Path:
        """Write a row per component."""
        headers = (
            *("class", "value", "change", "before_mm3", "after_mm3", "lost_mm3"),
            *("x_mm", "y_mm", "z_mm", "i", "j", "k"),
        )
        rows: list[tuple[Cell, ...]] = []
        for c in self.components:
            volumes = (c.before_mm3, c.after_mm3, c.lost_mm3)
            rows.append((c.name, c.value, c.change, *volumes, *c.centre_mm, *c.voxel))
        return write_csv(path, headers, rows)

    def classes_to_csv(self, path: Path) -> Path:
        """Write a row per class."""
        stages = range(1, len(self.keep_ratio) + 1)
        headers = (
            *("class", "value", "before_mm3", "after_mm3", "dice"),
            *(f"rebuilt_stage_{n}" for n in stages),
            *("kept", "not_processed"),
            *(f"before_rebuilt_stage_{n}" for n in stages),
        )
        unknown = (None,) * len(self.keep_ratio)
        rows: list[tuple[Cell, ...]] = []
        for c in self.classes:
            size = (c.before_mm3, c.after_mm3, c.dice)
            shares = (*(c.rebuilt or unknown), c.kept, c.not_processed)
            rows.append((c.name, c.value, *size, *shares, *(c.rebuilt_before or unknown)))
        return write_csv(path, headers, rows)

    def to_json(self, path: Path) -> Path:
        """Write everything but the difference of each voxel, which is counted."""
        return write_json(path, self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as the JSON file holds them."""
        return {
            "model": self.model,
            "keep_ratio": list(self.keep_ratio),
            "region": None if self.region is None else str(self.region),
            "voxels": self.voxels(),
            "voxel_mm3": plain(self.voxel_mm3),
            "classes": [_plain_dict(asdict(c)) for c in self.classes],
            "components": [
                _plain_dict({**asdict(c), "lost_mm3": c.lost_mm3}) for c in self.components
            ],
        }


def audit(
    volume: Volume,
    model: SCD,
    keep_ratio: float | Sequence[float] | None = None,
    *,
    region: Box | None = None,
    device: str | torch.device | None = None,
    **rule: Any,
) -> Audit:
    """Segment a volume without pruning and with it, and say what changed.

    Parameters
    ----------
    volume
        The input.
    model
        A loaded model that prunes.
    keep_ratio
        In (0, 1]: one number or one per stage; the model's default if not given.
    region
        Compare, and run, this part of the volume alone.
    device
        Where to run: the model's own device if not given.
    **rule
        ``importance``, ``pin`` and ``drop`` of the run that prunes, as `segment` takes them.

    Raises
    ------
    SegmentError, VolumeError, RegionError, ValueError
        In one plain line: what cannot be used.
    """
    for event in auditing(volume, model, keep_ratio, region=region, device=device, **rule):
        if isinstance(event, Audit):
            return event
    raise AssertionError("the audit ended without a result")


def auditing(
    volume: Volume,
    model: SCD,
    keep_ratio: float | Sequence[float] | None = None,
    *,
    region: Box | None = None,
    device: str | torch.device | None = None,
    **rule: Any,
) -> Iterator[RunProgress | Audit]:
    """Audit step by step; the parameters are those of `audit`.

    Yields
    ------
    RunProgress
        Before the first window of a run and after each one. The caller may stop here.
    Audit
        Once, at the end.
    """
    info, stages = check_fit(volume, model), model.config.stages
    if not stages:
        raise SegmentError("this model prunes no tokens: there is nothing to audit")
    ratios = keep_ratios(model.config.keep_ratio if keep_ratio is None else keep_ratio, stages)
    settings = list(dict.fromkeys([Setting(unpruned(stages)), Setting(ratios, **rule)]))
    placed = model if device is None else model.to(choose_device(str(device)))
    runs = []
    for event in running_each(volume, placed, settings, region):
        if isinstance(event, RunProgress):
            yield event
        else:
            runs.append(event.segmentation)
    yield compare(volume, info, runs[0], runs[-1])


def unpruned(stages: int) -> tuple[float, ...]:
    """Return the keep ratios that prune nothing."""
    return (1.0,) * stages


def compare(
    volume: Volume, info: ModelInfo, reference: Segmentation, pruned: Segmentation
) -> Audit:
    """Say what differs between two runs on one volume and region.

    Parameters
    ----------
    volume
        What was segmented.
    info
        The model's classes.
    reference, pruned
        The runs without pruning and with it.
    """
    box = pruned.region or Box((0, 0, 0), volume.shape)
    pruned_at = pruned.tokens.on_input_grid(pruned.tokens.pruned_at)[box.slices]
    mm3 = volume.voxel_mm3
    classes: list[ClassAudit] = []
    components: list[Component] = []
    pairs = zip(result_masks(reference, info, box), result_masks(pruned, info, box), strict=True)
    for label, masks in zip(info.classes, pairs, strict=True):
        classes.append(_class_audit(label, masks, pruned_at, pruned.tokens.stages, mm3))
        components += changed_components(*masks, volume.affine, label, box.start)
    return Audit(
        model=info.name,
        keep_ratio=pruned.stats.kept_shares,
        region=pruned.region,
        difference=difference(reference.labels, pruned.labels),
        voxel_mm3=mm3,
        classes=tuple(classes),
        components=tuple(sorted(components, key=_by_loss)),
    )


def difference(reference: NDArray[np.integer], pruned: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Compare labels voxel by voxel, as ``Audit.difference`` says."""
    changes = np.full(reference.shape, CHANGED_CLASS, np.uint8)
    changes[reference == pruned] = SAME
    changes[(reference != 0) & (pruned == 0)] = LOST
    changes[(reference == 0) & (pruned != 0)] = GAINED
    return changes


def token_shares(
    mask: NDArray[np.bool_], pruned_at: NDArray[np.uint8], stages: int
) -> tuple[float, ...] | None:
    """Share of a mask's voxels by what became of their token: values 0 … S + 1 of pruned-at.

    None where the mask is empty.
    """
    counts = np.bincount(pruned_at[mask], minlength=stages + 2)
    total = int(counts.sum())
    return tuple((counts / total).tolist()) if total else None


def _class_audit(
    label: LabelClass,
    masks: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    pruned_at: NDArray[np.uint8],
    stages: int,
    mm3: float,
) -> ClassAudit:
    before, after = masks
    shares = token_shares(after, pruned_at, stages)
    shares_before = token_shares(before, pruned_at, stages)
    return ClassAudit(
        name=label.name,
        value=label.value,
        before_mm3=int(before.sum()) * mm3,
        after_mm3=int(after.sum()) * mm3,
        dice=agreement(before, after),
        rebuilt=shares and shares[1:-1],
        kept=shares[-1] if shares else None,
        not_processed=shares[0] if shares else None,
        rebuilt_before=shares_before and shares_before[1:-1],
    )


def _by_loss(component: Component) -> tuple[bool, float]:
    appeared = component.change == "appeared"
    return appeared, component.lost_mm3 if appeared else -component.lost_mm3


def _plain_dict(row: dict[str, Any]) -> dict[str, Any]:
    return {
        key: [plain(v) for v in value] if isinstance(value, tuple) else plain(value)
        for key, value in row.items()
    }
