from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_tokensparse.model.encoder import TokenTrace
from napari_tokensparse.model.scd import SCD, SCDOutput
from napari_tokensparse.segmenting.infer import SegmentError, segment
from napari_tokensparse.segmenting.preview import PreviewSession
from napari_tokensparse.volumes.preprocess import preprocess
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.volume import Volume

MakeModel = Callable[..., SCD]
RAS_LABELS = [["L", "R"], ["P", "A"], ["I", "S"]]
ORIENT = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": RAS_LABELS}
# Stored as (A, L, S): the first axis towards the front, the second to the left.
TURNED = np.array([[0, -1, 0, 5], [1, 0, 0, -3], [0, 0, 1, 2], [0, 0, 0, 1.0]])


def volume_of(shape: tuple[int, int, int], affine: NDArray[np.float64] = TURNED) -> Volume:
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return Volume(array[None], affine, "scan")


def windows_of(volume: Volume, model: SCD, keep_ratio: Any) -> list[SCDOutput]:
    """Segment, and note what the network gave for every window."""
    seen: list[SCDOutput] = []
    hook = model.register_forward_hook(lambda _, given, out: seen.append(out))
    segment(volume, model, keep_ratio)
    hook.remove()
    return [row_of(out, row) for out in seen for row in range(len(out.logits))]


def row_of(out: SCDOutput, row: int) -> SCDOutput:
    only = slice(row, row + 1)
    scores, pruned = (tuple(x[only] for x in xs) for xs in (out.trace.scores, out.trace.pruned))
    return SCDOutput(out.logits[only], TokenTrace(scores, pruned, out.trace.kept[only]))


def same(one: SCDOutput, other: SCDOutput, exactly: bool = True) -> bool:
    """Whether ids are equal, and logits and scores are, or differ in the last digits alone."""
    ids = zip(
        (*one.trace.pruned, one.trace.kept), (*other.trace.pruned, other.trace.kept), strict=True
    )
    values = zip((one.logits, *one.trace.scores), (other.logits, *other.trace.scores), strict=True)
    most = 0.0 if exactly else 1e-4
    return all(torch.equal(a, b) for a, b in ids) and all(
        torch.allclose(a, b, rtol=0, atol=most) for a, b in values
    )


@pytest.mark.parametrize("keep_ratio", [0.25, (1.0, 0.5, 0.1)])
def test_a_windows_logits_and_ids_are_those_of_a_whole_run(
    make_model: MakeModel, keep_ratio: float | tuple[float, ...]
) -> None:
    model = make_model(preprocessing=(ORIENT,))
    volume = volume_of((48, 40, 32))
    # Model axes: R 40 voxels, windows from 0 and 8; A 48 voxels, from 0 and 16; S from 0.
    starts = [(0, 0, 0), (0, 16, 0), (8, 0, 0), (8, 16, 0)]
    ratios = (0.25,) * 3 if keep_ratio == 0.25 else keep_ratio
    session = PreviewSession(volume, model)
    windows = windows_of(volume, model, keep_ratio)
    assert len(windows) == 4
    # The input's voxel (a, l, s) lies at model (39 - l, a, s).
    for start, out, voxel in zip(
        starts, windows, [(20, 20, 9), (24, 20, 9), (23, 19, 9), (47, 0, 31)], strict=True
    ):
        session.move_to(voxel)
        assert session.start == start
        first = session.run(ratios)
        assert same(first, out, exactly=False)  # there the windows were run at once
        assert same(session.run(ratios), first)
        assert session.update(keep_ratio).keep_ratios == ratios


def test_the_window_lies_where_its_box_says(make_model: MakeModel) -> None:
    model = make_model(preprocessing=(ORIENT,))
    session = PreviewSession(volume_of((48, 40, 32)), model, voxel=(47, 0, 31))
    preview = session.update(0.5)
    # Model (8..40, 16..48, 0..32) is l 0..32 and a 16..48 of the input.
    assert preview.box == Box((16, 0, 0), (48, 32, 32))
    classes = session.run((0.5,) * 3).logits[0].argmax(dim=0).numpy()  # (R, A, S)
    expected = np.array(model.info.label_values)[classes[::-1].transpose(1, 0, 2)]
    assert np.array_equal(preview.labels, expected)
    assert len(np.unique(expected)) >= 3
    assert preview.seconds > 0


def test_a_volume_of_one_window_gets_the_labels_of_a_whole_run(make_model: MakeModel) -> None:
    model = make_model(preprocessing=(ORIENT,))
    volume = volume_of((27, 30, 32))  # smaller than the window: it is padded
    preview = PreviewSession(volume, model).update(0.5)
    assert preview.box == Box((0, 0, 0), (27, 30, 32))
    assert np.array_equal(preview.labels, segment(volume, model, 0.5).labels)
    assert preview.labels.dtype == np.uint8


def test_unsure_pieces_are_left_out_as_in_a_whole_run(make_model: MakeModel) -> None:
    volume = volume_of((27, 30, 32))
    every = PreviewSession(volume, make_model(preprocessing=(ORIENT,))).update(0.5)
    model = make_model(preprocessing=(ORIENT,), least_confidence=0.9)
    preview = PreviewSession(volume, model).update(0.5)
    assert np.array_equal(preview.labels, segment(volume, model, 0.5).labels)
    assert 0 < (preview.labels > 0).sum() < (every.labels > 0).sum()


def test_an_input_voxel_takes_the_label_of_its_nearest_model_voxel(make_model: MakeModel) -> None:
    space = {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0, 2.0, 2.0]}
    model = make_model(preprocessing=(ORIENT, space))
    volume = volume_of((90, 70, 50), np.diag([1.0, 1.0, 1.0, 1.0]))
    prepared = preprocess(volume, (ORIENT, space))
    assert prepared.image.shape[1] == 46  # windows from 0 and 16 on a grid of 48
    session = PreviewSession(volume, model, voxel=(80, 60, 20))
    preview = session.update(0.5)
    assert preview.box.start[0] > 0
    assert preview.box.stop == (90, 70, 50)
    classes = session.run((0.5,) * 3).logits[0].argmax(dim=0).numpy()
    values = np.array(model.info.label_values)
    padding = [(-(-n // 8) * 8 - n) // 2 for n in prepared.image.shape[1:]]
    for voxel in [(85, 60, 40), (60, 30, 20), preview.box.start, (89, 69, 49)]:
        at = [
            int(np.floor(a.slope * v + a.start + p + 0.5)) - s
            for a, v, p, s in zip(prepared.axes, voxel, padding, session.start, strict=True)
        ]
        local = tuple(v - s for v, s in zip(voxel, preview.box.start, strict=True))
        assert preview.labels[local] == values[classes[tuple(at)]]


def test_what_was_cropped_away_is_not_in_the_box(make_model: MakeModel) -> None:
    crop = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}
    model = make_model(preprocessing=({**crop, "allow_smaller": True},))
    array = np.zeros((40, 44, 36), np.float32)
    array[10:30, 12:36, 8:32] = np.random.default_rng(0).uniform(1, 2, (20, 24, 24))
    volume = Volume(array[None], np.eye(4), "scan")
    preview = PreviewSession(volume, model).update(0.5)
    assert preview.box == Box((10, 12, 8), (30, 36, 32))
    whole = segment(volume, model, 0.5).labels
    assert np.array_equal(preview.labels, whole[preview.box.slices])


def test_what_is_begun_serves_every_keep_ratio_of_its_window(make_model: MakeModel) -> None:
    model = make_model(preprocessing=(ORIENT,))
    begun: list[None] = []
    model.encoder.patch_embed.register_forward_hook(lambda *_: begun.append(None))
    session = PreviewSession(volume_of((48, 32, 32)), model, voxel=(0, 0, 0))
    kept = [session.update(ratio).trace.kept.shape[1] for ratio in (1.0, 0.5, (0.5, 0.5, 0.25))]
    assert (kept, len(begun)) == ([64, 8, 4], 1)
    session.move_to((10, 3, 3))
    session.update(0.5)
    assert len(begun) == 1
    session.move_to((40, 3, 3))
    session.update(0.5)
    assert len(begun) == 2


def test_a_window_of_background_is_not_run(make_model: MakeModel) -> None:
    model = make_model(preprocessing=(ORIENT,))
    model.register_forward_hook(lambda *_: pytest.fail("the network ran"))
    volume = Volume(np.zeros((1, 32, 40, 32), np.float32), TURNED, "scan")
    preview = PreviewSession(volume, model).update(0.5)
    assert preview.trace is None
    assert preview.labels.shape == (32, 32, 32)
    assert not preview.labels.any()


def test_what_cannot_be_previewed_is_refused_in_one_line(make_model: MakeModel) -> None:
    model = make_model(preprocessing=(ORIENT,))
    with pytest.raises(ValueError, match=r"^keep ratio 1\.5: must be in \(0, 1\]$"):
        PreviewSession(volume_of((32, 32, 32)), model).update(1.5)
    two = Volume(np.zeros((2, 32, 32, 32), np.float32), TURNED, "scan")
    with pytest.raises(SegmentError, match=r"^scan: has 2 channels; model nano takes 1: T1$"):
        PreviewSession(two, model)
    coarse = volume_of((2, 32, 32), np.diag([100.0, 1.0, 1.0, 1.0]))
    space = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.0, 1.0, 1.0]}
    session = PreviewSession(coarse, make_model(preprocessing=(ORIENT, space)), (0.5, 16, 16))
    with pytest.raises(SegmentError) as refused:
        session.update(0.5)
    assert str(refused.value) == "scan: no voxel lies in this window; look elsewhere"
