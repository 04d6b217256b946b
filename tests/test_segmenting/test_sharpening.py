from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.segmenting import sharpening
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.inputgrid import InputGrid
from napari_tokensparse.segmenting.labelrule import LabelRule
from napari_tokensparse.segmenting.sharpening import MARGIN, Contests, neighbours, sharpen
from napari_tokensparse.segmenting.stitch import Rows
from napari_tokensparse.volumes.preprocess import AxisMap
from napari_tokensparse.volumes.volume import Volume

SHAPE = (48, 42, 36)
COARSE = (16, 14, 12)
VALUES = (0, 5, 9)


def balls() -> NDArray[np.int64]:
    """A ball in a ball: class 2 in class 1 in background."""
    i, j, k = np.indices(SHAPE) - np.array(SHAPE).reshape(3, 1, 1, 1) / 2
    radius = np.sqrt(i**2 + j**2 + k**2)
    return (radius < 15).astype(np.int64) + (radius < 8)


def scan(truth: NDArray[np.int64], channels: list[list[float]]) -> Volume:
    """An image in which class n has the n-th intensity of each channel, sd 2."""
    noise = np.random.default_rng(0).normal(0, 2, (len(channels), *SHAPE))
    array = np.array([np.array(each)[truth] for each in channels]) + noise
    return Volume(array.astype(np.float32), np.eye(4), "balls")


def coarse_logits(truth: NDArray[np.int64]) -> torch.Tensor:
    """What a good network of a coarser grid knows: shares of classes in its voxels."""
    shares = np.stack([truth == n for n in range(len(VALUES))]).astype(np.float32)
    h, w, d = COARSE
    blocks = shares.reshape(len(VALUES), h, 3, w, 3, d, 3).mean(axis=(2, 4, 6))
    return torch.from_numpy(np.log(blocks + 0.01))


def labelled(
    logits: torch.Tensor, contests: Contests | None, slabs: int = 5
) -> NDArray[np.unsignedinteger]:
    first, second, third = (AxisMap(axis, 1 / 3, -1 / 3) for axis in range(3))
    extents = [(0, n) for n in COARSE]
    grid = InputGrid(SHAPE, (first, second, third), extents, LabelRule(VALUES), None, contests)
    sums = (2.0 * logits).movedim(0, -1).contiguous()
    for rows in sums.split(slabs):
        grid.add(Rows(rows, torch.full(rows.shape[:3], 2.0)))
    return grid.labels


def wrong(labels: NDArray[np.unsignedinteger], truth: NDArray[np.int64]) -> int:
    return int(np.count_nonzero(labels != np.array(VALUES)[truth]))


def test_a_border_that_the_scan_shows_is_recovered() -> None:
    truth, contests = balls(), Contests(len(VALUES))
    labels = labelled(coarse_logits(truth), contests)
    before, was = wrong(labels, truth), labels.copy()
    changed = sharpen(labels, contests, scan(truth, [[0.0, 50.0, 100.0]]), VALUES)
    assert changed == np.count_nonzero(labels != was) > 0
    assert before > 500
    assert wrong(labels, truth) < 0.2 * before


def test_neighbours_settle_what_noise_would_decide() -> None:
    truth, contests = balls(), Contests(len(VALUES))
    labels = labelled(coarse_logits(truth), contests)
    noisy = scan(truth, [[0.0, 6.0, 12.0]])  # three standard deviations apart
    before = wrong(labels, truth)
    sharpen(labels, contests, noisy, VALUES)
    alone = labelled(coarse_logits(truth), contests := Contests(len(VALUES)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharpening, "_NEIGHBOUR", 0.0)
        sharpen(alone, contests, noisy, VALUES)
    assert wrong(labels, truth) < 0.9 * wrong(alone, truth) < wrong(alone, truth) < before


def test_neighbours_are_counted_within_the_volume_and_by_their_distance() -> None:
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[0, 1, 2] = labels[2, 1, 2] = labels[1, 1, 1] = labels[2, 3, 3] = 7
    stored = np.asfortranarray(labels).T.reshape(-1)
    scanned = Volume(np.zeros((1, 3, 4, 5), np.float32), np.diag([1.0, 2.0, 4.0, 1.0]), "scan")
    voxels = np.array([1 + 3 * (1 + 4 * 2), 0 + 3 * (0 + 4 * 4), 0 + 3 * (3 + 4 * 3)])
    contending = np.array([[0, 0, 0], [7, 7, 7]], np.uint8)
    votes = neighbours(stored, contending, voxels, scanned)
    np.testing.assert_allclose(votes[1], [2 + 0.25, 0, 0])
    np.testing.assert_allclose(votes[0], [2 * 0.5 + 0.25, 1 + 0.5 + 0.25, 1 + 0.5 + 2 * 0.25])


def test_classes_that_the_scan_does_not_tell_apart_keep_their_labels_bit_for_bit() -> None:
    truth, contests = balls(), Contests(len(VALUES))
    labels = labelled(coarse_logits(truth), contests)
    was = labels.copy()
    assert sharpen(labels, contests, scan(truth, [[50.0, 50.0, 50.0]]), VALUES) == 0
    np.testing.assert_array_equal(labels, was)


def test_only_the_border_between_classes_that_look_the_same_stays() -> None:
    truth, contests = balls(), Contests(len(VALUES))
    labels = labelled(coarse_logits(truth), contests)
    was = labels.copy()
    sharpen(labels, contests, scan(truth, [[0.0, 50.0, 50.0]]), VALUES)
    outside = [np.count_nonzero((each > 0) != (truth > 0)) for each in (was, labels)]
    assert outside[1] < 0.2 * outside[0]
    np.testing.assert_array_equal(labels == 9, was == 9)


def test_a_second_channel_tells_apart_what_the_first_does_not() -> None:
    truth, contests = balls(), Contests(len(VALUES))
    labels = labelled(coarse_logits(truth), contests)
    before = wrong(labels, truth)
    volume = scan(truth, [[0.0, 50.0, 50.0], [10.0, 10.0, 60.0]])
    sharpen(labels, contests, volume, VALUES)
    assert wrong(labels, truth) < 0.2 * before


def test_a_class_that_is_not_likely_never_takes_a_voxel_over() -> None:
    """The scan says that all is class 2, and the prior leaves it no share but where it is."""
    truth, contests = balls(), Contests(len(VALUES))
    labels = labelled(coarse_logits(truth), contests)
    volume = scan(truth, [[0.0, 50.0, 100.0]])
    volume.array[:, truth == 1] += 50
    was = labels.copy()
    sharpen(labels, contests, volume, VALUES)
    noted = {int(n) for block in contests for n in block.voxels}
    changed = np.flatnonzero((labels != was).T.reshape(-1))
    assert set(changed.tolist()) <= noted
    assert len(noted) < 0.6 * truth.size


def test_what_is_noted_does_not_depend_on_the_slabs_and_changes_no_label() -> None:
    truth = balls()
    logits = coarse_logits(truth)
    notes = [Contests(len(VALUES)) for _ in range(2)]
    plain = labelled(logits, None)
    for contests, slabs in zip(notes, (1, 16), strict=True):
        np.testing.assert_array_equal(labelled(logits, contests, slabs), plain)
    one, other = (
        {int(v): set(zip(c.tolist(), g.tolist(), strict=True))
         for block in each
         for v, c, g in zip(block.voxels, block.channels.T, block.gaps.T, strict=True)}
        for each in notes
    )  # fmt: skip
    assert one == other
    assert len(one) == len(notes[0]) == len(notes[1])


def test_every_voxel_of_two_likely_classes_is_noted_with_its_gap() -> None:
    truth, contests = balls(), Contests(len(VALUES))
    logits = coarse_logits(truth)
    labelled(logits, contests)
    at = (np.arange(n) for n in SHAPE)
    i, j, k = (torch.from_numpy(np.clip(x / 3 - 1 / 3, 0, n - 1)) for x, n in zip(
        at, COARSE, strict=True))  # fmt: skip
    fine = logits.double()
    for axis, x in enumerate((i, j, k), start=1):
        low = x.floor().long()
        high = (low + 1).clamp(max=fine.shape[axis] - 1)
        view = [1] * 4
        view[axis] = -1
        fine = torch.lerp(
            fine.index_select(axis, low), fine.index_select(axis, high), (x - low).view(view)
        )
    best, second = fine.topk(2, dim=0).values
    gap = (best - second).numpy().T.reshape(-1)
    shares = {
        int(v): float(g)
        for block in contests
        for v, g in zip(block.voxels, block.gaps[1], strict=True)
    }
    assert set(np.flatnonzero(gap < MARGIN - 1e-3).tolist()) <= set(shares)
    assert set(shares) <= set(np.flatnonzero(gap < MARGIN + 1e-3).tolist())
    assert max(abs(gap[v] - g) for v, g in shares.items()) < 4e-3


def test_a_scan_that_is_read_block_by_block_gives_the_same() -> None:
    import dask.array as da

    truth = balls()
    volume = scan(truth, [[0.0, 50.0, 100.0]])
    lazy = Volume(da.from_array(volume.array, chunks=(1, 20, 20, 20)), np.eye(4), "lazy")
    results = []
    for each in (volume, lazy):
        contests = Contests(len(VALUES))
        labels = labelled(coarse_logits(truth), contests)
        sharpen(labels, contests, each, VALUES)
        results.append(labels)
    np.testing.assert_array_equal(*results)


def test_too_few_voxels_to_learn_from_stay_as_they_are() -> None:
    truth = np.zeros(SHAPE, np.int64)
    truth[24:27, 21:24, 18:21] = 1
    contests = Contests(len(VALUES))
    labels = labelled(coarse_logits(truth) * 3, contests)
    was = labels.copy()
    assert sharpen(labels, contests, scan(truth, [[0.0, 50.0, 90.0]]), VALUES) == 0
    np.testing.assert_array_equal(labels, was)


def test_a_scan_with_another_background_is_sharpened_as_it_is_seen(write_nano):
    """A gain is fitted, so what lies below 0 would be another scan."""
    normal = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True}
    coarse = {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0] * 3, "mode": "bilinear"}
    model = load_model(write_nano(preprocessing=(coarse, normal), sharpen=True))
    rng = np.random.default_rng(0)
    array = np.zeros((1, 48, 48, 48), np.float32)
    inside = array[0, 4:-4, 4:-4, 4:-4]
    inside[:] = 100 + 300 * gaussian_filter(rng.normal(size=inside.shape), 3) / 0.05
    inside[:] = np.maximum(inside, 1).round()
    volume = Volume(array, np.eye(4), "scan")
    raw = segment(volume, model, device="cpu")
    assert raw.stats.sharpened
    below = segment(replace(volume, array=array - 1000), model, device="cpu")
    assert np.array_equal(below.labels, raw.labels)
    plain = segment(volume, model, device="cpu", sharpen=False)
    assert not np.array_equal(plain.labels, raw.labels)
