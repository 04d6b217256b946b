"""A skull painted round the sample brain, and taken off again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import ndimage

from napari_tokensparse.model.bundle import write_bundle
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import USER_FOLDER_VARIABLE, ModelError
from napari_tokensparse.model.info import ModelInfo
from napari_tokensparse.outputs.receipts import (
    FinishedRun,
    input_scan,
    read_receipt,
    receipt_of,
    write_receipt,
)
from napari_tokensparse.outputs.repeat import check_model
from napari_tokensparse.segmenting.concerns import concerns
from napari_tokensparse.segmenting.estimating.estimate import estimate
from napari_tokensparse.segmenting.infer import Progress, Segmentation, segment, segmenting
from napari_tokensparse.segmenting.options import Options, command_line, options_for
from napari_tokensparse.segmenting.pinmasks import pins_under
from napari_tokensparse.segmenting.pins import tokens_under
from napari_tokensparse.segmenting.preview import PreviewSession
from napari_tokensparse.segmenting.stripping import brain_of, known_brain, stripper_of
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.samples import sample_path
from napari_tokensparse.volumes.volume import Volume
from napari_tokensparse.widgets.pruning.choice import Pruning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokensparse.model.scd import SCD

MM = 2.0


@pytest.fixture(scope="module")
def model() -> SCD:
    return load_model("brain-structures")


@pytest.fixture(scope="module")
def brain() -> Volume:
    """The sample at 2 mm, with air around."""
    sample = read_volume(sample_path())
    i, j, k = (n // 2 * 2 for n in sample.shape)
    halved = sample.array[0, :i, :j, :k].reshape(i // 2, 2, j // 2, 2, k // 2, 2).mean((1, 3, 5))
    affine = sample.affine @ np.diag([2, 2, 2, 1.0])
    return Volume(np.pad(halved, 14)[None].astype(np.float32), affine, "sample")


@pytest.fixture(scope="module")
def head(brain: Volume) -> Volume:
    """Fluid, a dark skull and a bright scalp round the brain, and muscle below it."""
    inside = ndimage.binary_closing(brain.array[0] > 0, iterations=4)
    depth = ndimage.distance_transform_edt(~inside, sampling=MM)
    noise = np.random.default_rng(0).normal(1, 0.1, inside.shape)
    white = np.percentile(brain.array[brain.array > 0], 90)
    whole = np.where(inside | (depth <= 3), 0.2, 0) + 0.08 * ((depth > 3) & (depth <= 9))
    whole += 1.2 * ((depth > 9) & (depth <= 16))
    neck = np.zeros_like(inside)
    neck[25:-25, 25:-35, :22] = True
    whole += 0.6 * (neck & (whole == 0))
    array = np.where(brain.array[0] > 0, brain.array[0], white * whole * noise)
    return replace(brain, array=array[None].astype(np.float32), name="head")


def mean_dice(one: NDArray[np.unsignedinteger], other: NDArray[np.unsignedinteger]) -> float:
    """Mean over the structures of the other."""
    pairs = [(one == value, other == value) for value in np.unique(other[other > 0])]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs]))


def test_a_head_gets_the_labels_of_its_brain(model: SCD, brain: Volume, head: Volume) -> None:
    alone = segment(brain, model)
    events = list(segmenting(head, model, options_for(model)))
    result = events[-1]
    assert isinstance(result, Segmentation)
    assert mean_dice(result.labels, alone.labels) > 0.95
    (note,) = result.stats.notes
    assert note.startswith("a whole head: its skull was taken off first, by the model's own labels")
    assert "wrong" not in note
    assert result.stats.seconds["strip"] > 0
    windows = [event for event in events if isinstance(event, Progress)]
    assert windows[0].done == 0 and len(windows) > result.stats.windows + 2  # the head's, too
    assert "strip" not in alone.stats.seconds and alone.stats.notes == ()


def test_a_rim_about_the_labels_stays(model: SCD, brain: Volume, head: Volume) -> None:
    kept, labels = brain_of(head, model).array[0] > 0, segment(brain, model).labels > 0
    rim, far = (ndimage.distance_transform_edt(~labels, sampling=MM) <= mm for mm in (2, 12))
    rim &= ~labels
    assert (kept & labels).sum() > 0.99 * labels.sum()
    assert (kept & rim).sum() > 0.8 * rim.sum()
    assert not kept[~far].any()


def test_the_brain_of_a_scan_is_looked_for_once_and_seen_by_the_preview(
    model: SCD, brain: Volume, head: Volume
) -> None:
    stripped = brain_of(head, model)
    assert known_brain(head, model) is stripped and brain_of(head, model) is stripped
    assert stripped.array.shape == head.array.shape and stripped.array.dtype == head.array.dtype
    kept = stripped.array != 0
    assert np.array_equal(stripped.array[kept], head.array[kept])
    shown = brain.array > 0
    tissue = shown & (brain.array > np.median(brain.array[shown]))
    assert (tissue & ~kept).sum() < 0.06 * tissue.sum()
    assert (kept & ~shown).sum() < 0.15 * shown.sum()
    assert brain_of(brain, model) is brain and known_brain(brain, model) is None
    of_head, of_brain = (PreviewSession(each, model).update(1.0) for each in (head, stripped))
    assert np.array_equal(of_head.labels, of_brain.labels)


def test_pins_of_a_head_are_tokens_of_its_brain(model: SCD, head: Volume) -> None:
    mask = np.zeros(head.shape, bool)
    mask[50:56, 60:66, 55:61] = True
    pin = pins_under(mask, head, model)
    tokens = segment(head, model, 0.1, pin=pin, sharpen=False).tokens
    assert tokens.pins is not None
    assert np.array_equal(tokens.pins == 1, tokens_under(mask, tokens.places))
    assert (tokens.pruned_at[tokens.pins == 1] == model.config.stages + 1).all()
    masks = Pruning(keep=mask)
    assert masks.options(head, model)["pin"] == pin
    assert pins_under(mask, head, model, strip=False) != pin


def test_a_model_says_so_and_a_run_may_say_otherwise(model: SCD, head: Volume) -> None:
    info = model.info
    assert concerns(head, info) == ()
    (line,) = concerns(head, info, strip=False)
    assert "perhaps it is not skull-stripped" in line
    assert "brain or whole head" in info.expectation
    noise = np.random.default_rng(1).normal(0, 0.02, head.shape)
    z_scored = replace(head, array=(head.array - head.array.mean()) / head.array.std() + noise)
    assert concerns(z_scored, info) == ()  # no border tells its background, but stripping does
    assert "nothing tells background" in "".join(concerns(z_scored, info, strip=False))
    plain = info.model_copy(update={"strip": False})
    assert "up to 2,400 ml" in plain.expectation and concerns(head, plain) != ()
    asked = Options(model="m", keep_ratio=(0.5,), sharpen=True, strip=True)
    scans = [("", "a.nii.gz")]
    assert "--strip" in command_line(asked, scans, "b.nii.gz")
    assert "strip" not in command_line(asked, scans, "b.nii.gz", info)
    not_so = asked.model_copy(update={"strip": False})
    assert "--no-strip" in command_line(not_so, scans, "b.nii.gz", info)


def test_what_cannot_tell_a_head_from_a_brain_is_refused(model: SCD) -> None:
    unknown = model.info.model_copy(update={"foreground_ml": None, "strip": False})
    with pytest.raises(ValueError, match="model brain-structures: does not say how much of a scan"):
        unknown.strips(True)
    with pytest.raises(ValueError, match="foreground_ml must say how much a brain is"):
        ModelInfo.model_validate({**model.info.model_dump(), "foreground_ml": None})


TWO = {"channels": ("FLAIR", "T1"), "strip": True, "strip_by": "cutter"}
A_DROP = {"foreground_ml": (0.0, 1.0)}
METADATA = {"version": "1", "task": "test", "description": "", "authors": "", "copyright": ""}


@pytest.fixture
def cutter(
    make_model: Callable[..., SCD], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., SCD]:
    """Put a model called cutter among the user's, that labels some of anything."""
    monkeypatch.setenv(USER_FOLDER_VARIABLE, str(tmp_path))

    def put(channel: str) -> SCD:
        made = make_model(name="cutter", channels=(channel,), strip=True, **A_DROP)
        write_bundle(tmp_path / "cutter", made, METADATA, "")
        return load_model("cutter")

    return put


@pytest.mark.parametrize(("channel", "number"), [("any MRI", 0), ("T1", 1)])
def test_another_model_strips_by_the_channel_that_it_names_or_the_first(
    cutter: Callable[..., SCD],
    write_nano: Callable[..., Path],
    tmp_path: Path,
    channel: str,
    number: int,
) -> None:
    by = cutter(channel)
    model = load_model(write_nano("finder", **TWO, **A_DROP))
    values = np.random.default_rng(0).uniform(1, 2, (2, 40, 40, 40)).astype(np.float32)
    scan = Volume(values, np.diag([2.5, 2.5, 2.5, 1.0]), "scan", ("FLAIR", "T1"))
    alone = brain_of(replace(scan, array=values[[number]], channel_names=()), by)
    kept = alone.array[0] != 0
    assert 0 < kept.sum() < kept.size
    result = segment(scan, model)
    np.testing.assert_array_equal(brain_of(scan, model).array != 0, [kept, kept])
    assert known_brain(scan, model) is not None and known_brain(scan, by) is None
    np.testing.assert_array_equal(
        result.labels, segment(brain_of(scan, model), model, strip=False).labels
    )
    (note,) = (note for note in result.stats.notes if "skull" in note)
    assert "its skull was taken off first, by the labels of cutter, which left" in note
    run = FinishedRun(scan, model, options_for(model), result)
    (tmp_path / "scan").touch()
    receipt = receipt_of(run, [input_scan(tmp_path / "scan")], None)
    assert receipt.stripper is not None and receipt.stripper.name == "cutter"
    assert receipt.stripper.weights_sha256 == by.info.weights_sha256 != receipt.model.weights_sha256
    file = write_receipt(tmp_path / "scan.receipt.json", receipt)
    assert read_receipt(file) == receipt
    none = write_receipt(file, receipt.model_copy(update={"stripper": None}))
    assert "stripper" not in none.read_text()  # so that older versions read it
    other = receipt.stripper.model_copy(update={"weights_sha256": "0" * 64})
    check_model(receipt, receipt.model, receipt.stripper)
    with pytest.raises(ValueError, match="model cutter: has other weights than the receipt's"):
        check_model(receipt, receipt.model, other)


def test_a_stripper_that_is_not_here_is_named_once_a_head_comes(
    write_nano: Callable[..., Path],
    make_model: Callable[..., SCD],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(USER_FOLDER_VARIABLE, str(tmp_path))
    model = load_model(write_nano("finder", **{**TWO, "strip_by": "brain-structure"}, **A_DROP))
    values = np.random.default_rng(0).uniform(1, 2, (2, 24, 24, 24)).astype(np.float32)
    head = Volume(values, np.eye(4), "head")
    said = (
        r"^model finder: its heads are stripped by model 'brain-structure' \(strip_by\), which is "
        r"not on this machine; did you mean brain-structures\?; add it, or leave strip out \(--no-"
    )
    for run in (segment, estimate, PreviewSession):
        with pytest.raises(ModelError, match=said):
            run(head, model)
    assert "strip" not in segment(head, model, strip=False).stats.seconds
    small = replace(head, array=head.array[:, :9, :9, :9])
    assert "strip" not in segment(small, model).stats.seconds  # no head, nothing is missed
    write_nano("several", ("PD", "T2"), **A_DROP)
    by_several = load_model(write_nano("third", **{**TWO, "strip_by": "several"}, **A_DROP))
    with pytest.raises(ModelError, match="by model several, which takes PD, T2, and it has FLAIR,"):
        segment(head, by_several)
    assert stripper_of(make_model(name="own", strip_by="own")).info.name == "own"


@pytest.mark.parametrize("name", ["../elsewhere", "hf://lab/brain", "/tmp/model", "a\nb"])
def test_no_path_or_address_strips(name: str) -> None:
    with pytest.raises(ValueError, match=r"strip_by\n.*must be"):
        ModelInfo(name="m", channels=("T1",), classes=(), strip_by=name)
