"""Segment one volume several times, at several settings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_tokensparse.compute.memory import PeakMemory
from napari_tokensparse.inspecting.progress import RunProgress
from napari_tokensparse.segmenting.infer import Segmentation, segmenting
from napari_tokensparse.segmenting.options import options_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from napari_tokensparse.inspecting.progress import Setting
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.infer import Progress
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume


@dataclass(frozen=True, eq=False)
class SettingRun:
    """One run that ended: its setting, what it gave and its peak memory in MB."""

    setting: Setting
    segmentation: Segmentation
    peak_mb: float


def running_each(
    volume: Volume,
    model: SCD,
    settings: Iterable[Setting],
    region: Box | None = None,
    runs: int | None = None,
) -> Iterator[RunProgress | SettingRun]:
    """Segment a volume at every setting, on the model's device.

    ``runs`` is how many settings there are, where later ones follow from earlier runs.

    Yields
    ------
    RunProgress
        Before the first window of a run and after each one. The caller may stop here.
    SettingRun
        At the end of each run.
    """
    began = time.perf_counter()
    if runs is None:
        settings = list(settings)
        runs = len(settings)
    for number, setting in enumerate(settings, start=1):
        options = options_for(
            model,
            setting.keep_ratios,
            importance=setting.importance,
            scorer=setting.scorer,
            pin=setting.pin,
            drop=setting.drop,
            region=region,
            device=None,
        )
        result = None
        with PeakMemory(next(model.parameters()).device) as memory:
            for event in segmenting(volume, model, options):
                if isinstance(event, Segmentation):
                    result = event
                else:
                    yield _progress(setting, (number, runs), event, began)
        assert result is not None
        yield SettingRun(setting, result, memory.mb)


def _progress(
    setting: Setting, run: tuple[int, int], windows: Progress, began: float
) -> RunProgress:
    number, runs = run
    so_far = RunProgress(setting, number, runs, windows.done, windows.total, None)
    if not so_far.share:
        return so_far
    left = (time.perf_counter() - began) * (1 - so_far.share) / so_far.share
    return RunProgress(setting, number, runs, windows.done, windows.total, left)
