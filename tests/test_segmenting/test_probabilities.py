"""Probabilities on the input's grid are those of linearly interpolated logits, voxel by voxel."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.probabilities import ProbabilityGrid
from napari_tokensparse.segmenting.stitch import Rows
from napari_tokensparse.volumes.preprocess import AxisMap
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.volume import Volume

MakeModel = Callable[..., SCD]
SHAPE = (12, 9, 10)  # of the input, whose axes are the model's third, first and second
AXES = (AxisMap(2, 0.5, 0.25), AxisMap(0, -0.75, 6.0), AxisMap(1, 0.6, -0.4))
MODEL = (7, 6, 6)
EXTENTS = [(0, 7), (0, 6), (0, 6)]


def logits(k: int = 4) -> torch.Tensor:
    return 3 * torch.randn(*MODEL, k, generator=torch.Generator().manual_seed(0))


def fed(grid: ProbabilityGrid, values: torch.Tensor, rows: int) -> ProbabilityGrid:
    weights = torch.rand(MODEL, generator=torch.Generator().manual_seed(1)) + 0.5
    every = Rows(values * weights[..., None], weights)
    for first in range(0, MODEL[0], rows):
        grid.add(every.part(first, first + rows))
    return grid


def by_scipy(values: torch.Tensor) -> np.ndarray:
    """Interpolate each channel at every input voxel: ``(K, i, j, k)``."""
    places = np.meshgrid(
        *(a.coordinates(n) for a, n in zip(AXES, SHAPE, strict=True)), indexing="ij"
    )
    at = [None, None, None]
    for axis, place in zip(AXES, places, strict=True):
        at[axis.axis] = place.clip(0, MODEL[axis.axis] - 1)
    return np.stack(
        [map_coordinates(v, at, order=1) for v in values.movedim(-1, 0).double().numpy()]
    )


def inside() -> np.ndarray:
    """Tell which input voxels lie at most half a model voxel outside the model's grid."""
    lines = [
        (a.coordinates(n) >= -0.5) & (a.coordinates(n) <= MODEL[a.axis] - 0.5)
        for a, n in zip(AXES, SHAPE, strict=True)
    ]
    return np.einsum("i,j,k->ijk", *lines).astype(bool)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_the_winners_share_and_those_of_classes_are_softmax_of_interpolated_logits(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_tokensparse.segmenting.probabilities._VOXELS_AT_ONCE", 250)
    grid = ProbabilityGrid(SHAPE, AXES, EXTENTS, exclusive=True, channels=(3, 0), confidence=True)
    fed(grid, logits(), rows)
    interpolated = by_scipy(logits())
    shares = np.exp(interpolated) / np.exp(interpolated).sum(axis=0)
    assert grid.confidence is not None and grid.confidence.dtype == np.uint8
    assert 0 < inside().sum() < inside().size
    seen = inside()
    np.testing.assert_allclose(grid.confidence[seen], 255 * shares.max(axis=0)[seen], atol=0.51)
    np.testing.assert_allclose(grid.classes[0][seen], 255 * shares[3][seen], atol=0.51)
    np.testing.assert_allclose(grid.classes[1][seen], 255 * shares[0][seen], atol=0.51)
    assert (grid.confidence[~seen] == 255).all()  # background, where nothing was looked at
    assert (grid.classes[0][~seen] == 0).all() and (grid.classes[1][~seen] == 255).all()


def test_overlapping_regions_have_their_own_and_the_least_sure_decision() -> None:
    grid = ProbabilityGrid(SHAPE, AXES, EXTENTS, exclusive=False, channels=(1,), confidence=True)
    fed(grid, logits(3), 2)
    shares = 1 / (1 + np.exp(-by_scipy(logits(3))))
    seen = inside()
    sure = np.maximum(shares, 1 - shares).min(axis=0)
    np.testing.assert_allclose(grid.confidence[seen], 255 * sure[seen], atol=0.51)
    np.testing.assert_allclose(grid.classes[0][seen], 255 * shares[1][seen], atol=0.51)


def test_outside_a_box_nothing_is_known() -> None:
    box = Box((2, 1, 3), (9, 8, 9))
    whole, part = (
        ProbabilityGrid(SHAPE, AXES, EXTENTS, exclusive=True, channels=(0,), confidence=True, box=b)
        for b in (None, box)
    )
    for grid in (whole, part):
        fed(grid, logits(), 3)
    for name in ("confidence", "classes"):
        every, some = getattr(whole, name), getattr(part, name)
        wanted = np.zeros_like(every)
        wanted[(..., *box.slices)] = every[(..., *box.slices)]
        np.testing.assert_array_equal(some, wanted)


def test_logits_that_lie_far_apart_overflow_nothing() -> None:
    values = logits() * 200
    grid = ProbabilityGrid(SHAPE, AXES, EXTENTS, exclusive=True, channels=(1,), confidence=True)
    fed(grid, values, 7)
    interpolated = by_scipy(values)
    shares = np.exp(interpolated - interpolated.max(axis=0))
    shares /= shares.sum(axis=0)
    seen = inside()
    np.testing.assert_allclose(grid.classes[0][seen], 255 * shares[1][seen], atol=1.5)


def test_a_run_keeps_what_is_asked_and_it_agrees_with_the_labels(make_model: MakeModel) -> None:
    noise = np.random.default_rng(0).normal(100, 20, (1, 60, 50, 40)).astype(np.float32)
    volume = Volume(noise, np.diag([-1.0, 1.0, 1.5, 1.0]), "noise")
    spacing = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5] * 3, "mode": "bilinear"}
    ras = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}
    model = make_model(preprocessing=(ras, spacing))
    names = [c.name for c in model.info.classes]
    plain = segment(volume, model, 0.5)
    assert plain.confidence is None and not plain.probabilities
    result = segment(volume, model, 0.5, confidence=True, probabilities=["all"])
    np.testing.assert_array_equal(result.labels, plain.labels)
    assert list(result.probabilities) == names
    shares = np.stack([result.probabilities[name] for name in names]).astype(int)
    background = 255 - shares.sum(axis=0)
    every = np.concatenate([background[None], shares])
    values = np.array(model.info.label_values)
    best = np.sort(every, axis=0)
    clear = best[-1] - best[-2] > len(names) + 1  # what rounding cannot turn
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(values[every.argmax(axis=0)][clear], result.labels[clear])
    assert np.abs(result.confidence.astype(int) - every.max(axis=0)).max() <= len(names)


def test_a_class_that_is_not_there_is_refused_with_those_that_are(make_model: MakeModel) -> None:
    model = make_model()
    with pytest.raises(ValueError, match=r"^class 'liver': model .* has ") as refused:
        segment(Volume(np.ones((1, 8, 8, 8)), np.eye(4), "v"), model, probabilities=["liver"])
    assert "\n" not in str(refused.value)
    first = model.info.classes[0]
    assert model.info.class_names([str(first.value), first.name]) == (first.name,)
