"""Draw the figure of docs/method.md from a run of the bundled model: ``docs/images/method.png``.

    python tools/method_figure.py

Six panels of one axial slice of the sample brain: the tokens, who leaves at each stage, what the
completion puts back, and the labels that the decoder makes of it.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from napari_tokensparse import load_model, read_volume, segment
from napari_tokensparse.segmenting.tokenmaps import stage_colour
from napari_tokensparse.volumes.samples import sample_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from napari_tokensparse.model.config import SCDConfig
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.segmenting.result import Segmentation

PICTURE = Path(__file__).parents[1] / "docs/images/method.png"
KEEP_RATIO = 0.5
SLICE = 76  # k of the sample: through thalami and basal ganglia
KEPT_COLOUR = (200, 200, 200)
GONE, LEAVING, PLACE_ONLY, LABELLED = 0.85, 0.75, 0.35, 0.6  # opacities


class Slice:
    """One axial slice as a radiologist sees it: the patient's right on the left, front up."""

    def __init__(self, image: NDArray[Any], result: Segmentation) -> None:
        self.result = result
        low, high = np.percentile(image, (1, 99.8))
        self.image = self.turned(((image - low) / (high - low)).clip(0, 1))
        tokens = result.tokens
        self.pruned_at = self.turned(tokens.on_input_grid(tokens.pruned_at))
        self.labels = self.turned(result.labels)

    @staticmethod
    def turned(volume: NDArray[Any]) -> NDArray[Any]:
        """Cut the slice out of ``(i, j, k)`` in RAS order, and turn it."""
        return volume[::-1, ::-1, SLICE].T

    def draw(self, axes: Axes, title: str, below: str) -> None:
        """Draw the image and the borders of the tokens."""
        axes.imshow(self.image, cmap="gray", interpolation="bilinear")
        for draw, axis in ((axes.axvline, 0), (axes.axhline, 1)):
            index = self.result.tokens.indices(axis)[0][::-1]
            for border in np.flatnonzero(np.diff(index)):
                draw(border + 0.5, color="white", linewidth=0.5, alpha=0.45)
        axes.set_title(title, fontsize=11, fontweight="bold")
        axes.set_xlabel(below, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])

    def paint(self, axes: Axes, where: NDArray[np.bool_], rgb: Any, opacity: float) -> None:
        """Lay a colour, one or one per pixel, over some pixels."""
        layer = np.zeros((*where.shape, 4))
        layer[..., :3] = np.asarray(rgb) / 255
        layer[..., 3] = opacity * where
        axes.imshow(layer, interpolation="nearest")


def stage(axes: Axes, shown: Slice, number: int, config: SCDConfig) -> None:
    """Show who leaves at a stage: in its colour; who left before is dark."""
    before, after = shown.result.stats.tokens_per_stage[number - 1 : number + 1]
    begun = config.prune_after[number - 2] + 1 if number > 1 else 0
    title = f"{number + 1}  Stage {number}: {before} → {after} tokens"
    end = config.prune_after[number - 1] + 1
    when = f"after {blocks(begun, end)}" if end > begun else "before the first block"
    shown.draw(axes, title, when)
    shown.paint(axes, shown.pruned_at < number, (0, 0, 0), GONE)
    shown.paint(axes, shown.pruned_at == number, stage_colour(number), LEAVING)


def completion(axes: Axes, shown: Slice, config: SCDConfig) -> None:
    """Show where each token of the dense map comes from."""
    all_tokens = shown.result.stats.tokens_per_stage[0]
    last = blocks(config.prune_after[-1] + 1, config.depth)
    shown.draw(axes, f"5  Completion: {all_tokens} again", f"after {last}: every place filled")
    for number in range(1, config.stages + 1):
        opacity = PLACE_ONLY if number <= config.forgotten_stages else LEAVING
        shown.paint(axes, shown.pruned_at == number, stage_colour(number), opacity)
    shown.paint(axes, shown.pruned_at == config.stages + 1, KEPT_COLOUR, LEAVING)


def decoded(axes: Axes, shown: Slice, info: ModelInfo) -> None:
    """Show the labels."""
    shown.draw(axes, "6  Decoder: every voxel labelled", "from the map of 5 and the image of 1")
    table = np.zeros((max(info.label_values) + 1, 3))
    for label in info.classes:
        table[label.value] = label.color
    shown.paint(axes, shown.labels > 0, table[shown.labels], LABELLED)


def blocks(first: int, end: int) -> str:
    """Name the blocks from a 0-based one on, as a person counts them."""
    return f"block {end}" if end - first == 1 else f"blocks {first + 1}–{end}"


def legend(figure: Figure, config: SCDConfig) -> None:
    """Explain the colours under the panels."""
    patches = [
        Patch(color=np.array(stage_colour(number)) / 255, label=f"pruned at stage {number}")
        for number in range(1, config.stages + 1)
    ]
    patches.append(Patch(color=np.array(KEPT_COLOUR) / 255, label="kept to the end"))
    figure.legend(handles=patches, loc="lower center", ncols=len(patches), frameon=False)


def main() -> None:
    """Segment the sample and draw the figure."""
    mpl.rcParams["font.family"] = "DejaVu Sans"
    volume, model = read_volume(sample_path()), load_model("brain-structures")
    config, info = model.config, model.info
    result = segment(volume, model, KEEP_RATIO)
    shown = Slice(volume.array[0].astype(float), result)
    counts = result.stats.tokens_per_stage
    assert config.stages == 3 and info is not None and all(a > b for a, b in pairwise(counts))

    figure = Figure(figsize=(9, 8.2), dpi=110, layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0.05, 1, 0.95))
    panels = figure.subplots(2, 3).ravel()
    shown.draw(panels[0], f"1  Volume: {counts[0]} tokens", f"cubes of {config.patch_size} voxels")
    for number in range(1, config.stages + 1):
        stage(panels[number], shown, number, config)
    completion(panels[4], shown, config)
    decoded(panels[5], shown, info)
    legend(figure, config)
    figure.savefig(PICTURE)


if __name__ == "__main__":
    main()
