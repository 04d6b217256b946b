"""One map of tokens at a time: flat in 2-D, boxes in 3-D; everybody says the same of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_tokensparse.inspecting.boxes import token_boxes
from napari_tokensparse.widgets.canvas.display import token_display
from napari_tokensparse.widgets.canvas.legend import legend_of

if TYPE_CHECKING:
    from conftest import Inspected
    from napari_tokensparse.widgets.inspector.stages_pane import StagesPane

pytestmark = pytest.mark.gui


def maps(inspected: Inspected) -> list[str]:
    """Name the maps of tokens that are seen."""
    kinds = ("importance", "rank", "stage", "pruned at", "kept tokens", "pruned tokens")
    layers = [x for x in inspected.viewer.layers if x.visible and x.name != "scan labels"]
    names = [str(layer.name).removeprefix("scan ") for layer in layers]
    return [name for name in names if name.startswith(kinds)]


def open_stages(inspected: Inspected) -> StagesPane:
    inspected.widget.tabs.setCurrentWidget(inspected.widget.stages)
    return inspected.widget.stages


def solid(inspected: Inspected) -> Any:
    """Go to 3-D, and wait for the boxes."""
    inspected.viewer.dims.ndisplay = 3
    names = inspected.viewer.layers
    inspected.qtbot.waitUntil(lambda: "scan kept tokens" in names, timeout=30_000)
    return inspected.layer("kept tokens")


def test_a_result_comes_up_with_labels_alone(inspected: Inspected) -> None:
    assert maps(inspected) == []
    assert inspected.layer("labels").contour == 0
    assert open_stages(inspected).view.currentText() == "nothing"


def test_the_inspector_and_the_eye_say_the_same(inspected: Inspected) -> None:
    stages = open_stages(inspected)
    stages.view.setCurrentText("importance")
    assert maps(inspected) == ["importance 1"]
    inspected.layer("importance 3").visible = True  # as its eye does
    assert maps(inspected) == ["importance 3"]
    assert (stages.view.currentText(), stages.stage.value()) == ("importance", 3)
    stages.stage.setValue(2)
    assert maps(inspected) == ["importance 2"]
    inspected.layer("importance 2").visible = False
    assert maps(inspected) == [] and stages.view.currentText() == "nothing"


def test_labels_are_outlines_over_a_map_and_lie_on_top_of_it(inspected: Inspected) -> None:
    stages, labels = open_stages(inspected), inspected.layer("labels")
    stages.view.setCurrentText("rank")
    layers = inspected.viewer.layers
    assert layers.index(layers["scan rank 1"]) < layers.index(labels)
    assert labels.contour == 1
    stages.view.setCurrentText("nothing")
    assert labels.contour == 0
    token_display(inspected.viewer).set_outlined(True)  # a person's choice
    assert labels.contour == 1
    token_display(inspected.viewer).set_outlined(False)
    assert labels.contour == 0


def test_the_canvas_says_what_the_colours_of_stages_mean(inspected: Inspected) -> None:
    stages = open_stages(inspected)
    stages.view.setCurrentText("pruned at")
    assert legend_of(inspected.viewer) == ["pruned at stage", "■ 1", "■ 2", "■ 3"]
    stages.view.setCurrentText("live and pruned")
    stages.stage.setValue(2)
    assert legend_of(inspected.viewer) == ["stage 2", "■ pruned", "■ live"]
    stages.view.setCurrentText("importance")
    assert legend_of(inspected.viewer) == []
    layer = inspected.layer("importance 2")
    assert layer.colorbar.visible
    limits = {tuple(inspected.layer(f"importance {n}").contrast_limits) for n in (1, 2, 3)}
    assert len(limits) == 1  # one scale for all stages


def test_in_3d_kept_tokens_are_boxes_in_the_colour_of_their_importance(
    inspected: Inspected,
) -> None:
    open_stages(inspected).view.setCurrentText("pruned at")
    layer = solid(inspected)
    assert maps(inspected) == ["kept tokens"]  # no brick of pruned ones
    shown = inspected.shown
    boxes = token_boxes(shown.segmentation, shown.volume)
    stages = shown.segmentation.tokens.stages
    kept = boxes.pruned_at == stages + 1
    vertices, faces, values = layer.data
    assert (len(vertices), len(faces)) == (24 * kept.sum(), 12 * kept.sum())
    np.testing.assert_allclose(values[::24], boxes.importance(stages)[kept])
    assert layer.colormap.map(np.linspace(0, 1, 9))[:, :3].max(axis=1).min() > 0.3  # none is black
    middles = vertices.reshape(-1, 24, 3).mean(axis=1)
    world = np.array([layer.data_to_world(middle) for middle in middles])
    centres = (boxes.lower + boxes.upper)[kept] / 2
    ras = centres @ shown.volume.affine[:3, :3].T + shown.volume.affine[:3, 3]
    np.testing.assert_allclose(world, ras[:, ::-1] * (1, -1, -1), atol=1e-6)  # LPS, (z, y, x)
    inspected.viewer.dims.ndisplay = 2
    assert maps(inspected) == ["pruned at"]
    assert "scan kept tokens" not in inspected.viewer.layers


def test_a_switch_shows_the_edges_of_pruned_tokens(inspected: Inspected) -> None:
    display = token_display(inspected.viewer)
    display.setValue(("pruned at", 1))
    solid(inspected)
    display.set_pruned_shown(True)
    shown = inspected.shown
    boxes = token_boxes(shown.segmentation, shown.volume)
    pruned = boxes.pruned_at <= shown.segmentation.tokens.stages
    layer = inspected.layer("pruned tokens")
    assert len(layer.data[0]) == 12 * 8 * pruned.sum()  # twelve edges, two strips of four corners
    assert layer.opacity < 0.5
    assert legend_of(inspected.viewer) == ["pruned at stage", "■ 1", "■ 2", "■ 3"]
    display.set_pruned_shown(False)
    assert maps(inspected) == ["kept tokens"]


def test_a_later_result_is_shown_as_the_one_before(inspected: Inspected) -> None:
    display = token_display(inspected.viewer)
    display.setValue(("pruned at", 1))
    before = len(solid(inspected).data[0])
    shown = inspected.publish(0.25)
    kept = shown.segmentation.tokens.counts()["kept"]

    def renewed() -> bool:
        names = [layer.name for layer in inspected.viewer.layers]
        return (
            "scan kept tokens" in names
            and len(inspected.layer("kept tokens").data[0]) == 24 * kept != before
        )

    inspected.qtbot.waitUntil(renewed, timeout=30_000)
