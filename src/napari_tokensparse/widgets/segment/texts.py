"""What the Segment widget says of a run and of a preview."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_tokensparse.common.durations import duration
from napari_tokensparse.model.ratios import describe_keep_ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tokensparse.segmenting.infer import Progress, Segmentation
    from napari_tokensparse.segmenting.preview import Preview


def progress_text(event: Progress) -> str:
    """Say in words how far a run is."""
    text = f"Window {min(event.done + 1, event.total)} of {event.total}"
    if event.seconds_left is None:
        return text
    return f"{text}, about {duration(event.seconds_left)} left"


def preview_text(preview: Preview) -> str:
    """Say in words what is previewed."""
    if preview.trace is None:
        return "Preview: this window is background alone."
    took = f"Preview in {preview.seconds:.2f} s"
    if preview.importance is None:
        return f"{took}: {describe_keep_ratio(preview.keep_ratios)}."
    counts = " → ".join(map(str, preview.live))
    return f"{took}: importance ≥ {preview.importance:g} leaves {counts} tokens of the window."


def meanwhile(image: str, *, removed: bool, changed: bool) -> list[str]:
    """Say what happened during a run: the image was removed, the model was changed on disk."""
    said = []
    if removed:
        said.append(f"{image} was removed during the run; these are its labels")
    if changed:
        said.append(
            "the model was changed on disk during the run; click Segment to run it as it is now"
        )
    return said


def result_text(result: Segmentation, notes: Sequence[str]) -> str:
    """Say in words what a run gave, and what to know of its input."""
    stats = result.stats
    kept, processed = stats.tokens["kept"], stats.tokens["processed"]
    where = "" if result.region is None else f", region {result.region}"
    done = (
        f"Done in {stats.seconds['total']:.1f} s{where}: {kept} of {processed} tokens reached the "
        f"end ({stats.windows} window{'s' * (stats.windows != 1)}, {stats.skipped} of background "
        "skipped)."
    )
    every = dict.fromkeys([*stats.notes, *notes])
    return "\n".join([done, *(f"Note: {note}." for note in every)])
