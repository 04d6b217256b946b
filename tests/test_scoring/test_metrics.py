import warnings

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from scipy import ndimage

from napari_tokensparse.scoring.metrics import dice, dice_per_class, hd95, hd95_per_class


def test_dice_of_known_overlaps() -> None:
    truth = np.array([[[10, 10, 10, 10, 42, 42, 0, 0]]])
    predicted = np.array([[[10, 10, 0, 0, 42, 42, 42, 99]]])
    dice = dice_per_class(predicted, truth, [10, 42, 7])
    np.testing.assert_allclose(dice[:2], [2 * 2 / (2 + 4), 2 * 2 / (3 + 2)])
    assert np.isnan(dice[2])  # the truth holds none


def test_labels_of_another_shape_are_refused() -> None:
    for metric in (dice_per_class, lambda *labels: hd95_per_class(*labels, (1, 1, 1))):
        with pytest.raises(ValueError, match=r"labels of shape \(1, 1, 2\): truth has shape"):
            metric(np.zeros((1, 1, 2), int), np.zeros((1, 1, 3), int), [1])


def box() -> np.ndarray:
    truth = np.zeros((20, 20, 20), np.uint8)
    truth[5:10, 5:10, 5:10] = 3
    return truth


def test_hd95_of_a_shifted_box_is_the_shift_in_mm_along_each_axis() -> None:
    moved = [np.roll(box(), 4, axis=axis) for axis in range(3)]
    distances = [hd95_per_class(m, box(), [3], (1.0, 2.0, 3.0))[0] for m in moved]
    assert distances == pytest.approx([4.0, 8.0, 12.0])
    assert hd95_per_class(box(), box(), [3], (1.0, 2.0, 3.0)).tolist() == [0.0]


def test_hd95_is_not_a_number_where_either_side_is_empty() -> None:
    predicted, truth = box(), box()
    predicted[0, 0, 0] = 7
    truth[0, 0, 0] = 9
    hd95 = hd95_per_class(predicted, truth, [3, 7, 9, 11], (1, 1, 1))
    assert hd95[0] == 0.0
    assert np.isnan(hd95[1:]).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hd95_is_the_larger_of_both_directions_percentiles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spacing = (0.8, 1.0, 2.5)
    predicted, true = (
        ndimage.gaussian_filter(rng.normal(size=(24, 20, 16)), 2) > 0.05 for _ in "ab"
    )
    predicted[0, 0, 0] = True  # a stray voxel, which the percentile leaves out
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (predicted, true)]
    far = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    expected = max(np.percentile(far[1][edges[0]], 95), np.percentile(far[0][edges[1]], 95))
    hd95 = hd95_per_class(predicted.astype(int), true.astype(int), [1], spacing)
    assert hd95 == pytest.approx([expected], rel=1e-5)


@pytest.mark.parametrize("cut", [slice(None), slice(0, 7)])
def test_figures_are_those_of_monais_metrics(cut: slice) -> None:
    rng = np.random.default_rng(4)
    spacing = [0.8, 1.0, 2.5]
    shape = (20, 18, 16)
    masks = [ndimage.gaussian_filter(rng.normal(size=shape), 2)[cut] > 0.02 for _ in "ab"]
    tensors = [torch.from_numpy(mask)[None, None] for mask in masks]
    with warnings.catch_warnings():  # MONAI 1.6 warns of an argument that it passes to itself
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        far = compute_hausdorff_distance(
            *tensors, include_background=True, percentile=95, spacing=spacing
        )
    assert hd95(*masks, spacing) == pytest.approx(float(far), rel=1e-5)
    assert dice(*masks) == pytest.approx(float(compute_dice(*(t.float() for t in tensors))))
