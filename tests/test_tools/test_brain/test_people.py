from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import torch

from brain.cases import ANY_CONTRAST, HEAD, PERSON, painted, spoiled_cases
from brain.looks import PeopleConfig, target_table
from brain.people import Anatomy, People, anatomy_of, read_person, structure_classes
from brain.structures import CLASS_COUNT
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.training.events import StepDone
from napari_tokensparse.training.loop import TrainSetup, train
from napari_tokensparse.training.trainconfig import TrainConfig

STILL: dict[str, Any] = {
    "rotation_deg": 0.0,
    "scale": 0.0,
    "shear": 0.0,
    "warp_mm": 0.0,
    "fine_warp_mm": 0.0,
    "shift_mm": 0.0,
    "head_shift_mm": 0.0,
    "strip_mm": (0.0, 0.0),
}
WINDOW = (32, 36, 32)
LEFT_CORTEX, RIGHT_CORTEX = 2, 17  # classes


def ids_of_a_head() -> npt.NDArray[np.int32]:
    """Skull (515) round fluid (24) round two cortices (3, 42) with a lesion (25) on the left."""
    i, j, k = np.indices((72, 76, 70)) - np.array([35.5, 37.5, 34.5]).reshape(3, 1, 1, 1)

    def ellipsoid(size: float) -> npt.NDArray[np.bool_]:
        return np.asarray((i / size) ** 2 + (j / (size + 4)) ** 2 + (k / (size - 2)) ** 2 <= 1)

    ids = np.where(ellipsoid(33), 515, 0)
    ids[ellipsoid(28)] = 24
    ids[ellipsoid(26)] = np.where(i < 0, 3, 42)[ellipsoid(26)]
    ids[((i + 12) ** 2 + j**2 + k**2 <= 16)] = 25
    ids[((i + 12) ** 2 + (j - 8) ** 2 + k**2 <= 9)] = 2
    ids[((i - 12) ** 2 + j**2 + k**2 <= 16)] = 41
    return ids.astype(np.int32)


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return anatomy_of(ids_of_a_head())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's file as the collection holds it: axes LIA."""
    made = tmp_path_factory.mktemp("people")
    lia = np.array([[-1.0, 0, 0, 60], [0, 0, 1, -20], [0, -1, 0, 50], [0, 0, 0, 1]])
    ras = nib.Nifti1Image(ids_of_a_head(), np.diag([1.0, 1, 1, 1]))
    turned = ras.as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.io_orientation(ras.affine), nib.orientations.io_orientation(lia)
        )
    )
    nib.save(turned, made / "seg_13.nii.gz")
    return made


def people(anatomy: Anatomy, **config: Any) -> People:
    return People([anatomy], WINDOW, PeopleConfig(**{**STILL, **config}))


def test_a_person_is_read_in_ras(folder: Path) -> None:
    ids, affine = read_person(folder / "seg_13.nii.gz")
    assert np.array_equal(ids, ids_of_a_head())
    assert nib.aff2axcodes(affine) == ("R", "A", "S")


def test_lesions_are_white_matter_of_their_side_with_a_look_of_their_own(anatomy: Anatomy) -> None:
    ids = ids_of_a_head()
    classes = structure_classes(ids)
    assert set(np.unique(classes[ids == 25])) == {1}
    assert set(np.unique(classes[(ids == 24) | (ids == 515)])) == {0}
    inside = tuple(slice(a.min(), a.max() + 1) for a in np.nonzero(ids > 0))
    targets = target_table()[anatomy.looks.long()].numpy()
    assert np.array_equal(targets, classes[inside])
    assert len(np.unique(anatomy.looks.numpy()[ids[inside] == 25])) == 1
    assert anatomy.looks.numpy()[ids[inside] == 25][0] not in (1, 0)


def test_shares_are_how_much_of_each_voxel_a_structure_has(anatomy: Anatomy) -> None:
    sample = people(anatomy, head_share=1.0).sample(1, 2)
    shares = sample.shares.float()
    assert sample.image.shape == (1, *WINDOW) and shares.shape == (CLASS_COUNT, *WINDOW)
    assert torch.allclose(shares.sum(dim=0), torch.ones(WINDOW))
    assert set((8 * shares).unique().tolist()) <= set(range(9))
    volume_ml = 0.027 * shares[[LEFT_CORTEX, RIGHT_CORTEX]].sum()
    true_ml = 1e-3 * np.isin(ids_of_a_head(), (3, 42)).sum()
    assert float(volume_ml) == pytest.approx(true_ml, rel=0.01)


def test_a_stripped_sample_is_exactly_0_outside_and_z_scored_inside(anatomy: Anatomy) -> None:
    sample = people(anatomy).sample(1, 3)
    brain = sample.image[0] != 0
    assert sample.image[0, 0, 0, 0] == 0
    assert sample.image[0][brain].mean().item() == pytest.approx(0, abs=1e-4)
    assert sample.image[0][brain].std(correction=0).item() == pytest.approx(1, abs=1e-3)
    assert (sample.shares[1:].float().sum(dim=0)[~brain] == 0).all()
    # Cut about 1 mm within or outside the brain's surface of 26 mm; the skull's is at 33.
    width = brain.any(dim=2).any(dim=1).sum().item()
    assert 50 / 3 <= width <= 56 / 3 + 1


def test_a_head_keeps_its_skull_as_background(anatomy: Anatomy) -> None:
    stripped, whole = (
        people(anatomy, head_share=share).sample(1, 3).image[0] != 0 for share in (0.0, 1.0)
    )
    shares = people(anatomy, head_share=1.0).sample(1, 3).shares.float()
    assert whole.sum() > 1.5 * stripped.sum()
    # A strip may cut voxels of which the brain has less than half.
    assert 0.9 < people(anatomy).sample(1, 3).shares[1:].float().sum() / shares[1:].sum() <= 1


def test_a_key_gives_one_sample_and_another_key_another(anatomy: Anatomy) -> None:
    maker = People([anatomy], WINDOW, PeopleConfig(head_share=0.5))
    again = People([anatomy], WINDOW, PeopleConfig(head_share=0.5))
    for key in range(3):
        one, other = maker.sample(5, key), again.sample(5, key)
        assert torch.equal(one.image, other.image) and torch.equal(one.shares, other.shares)
    assert not torch.equal(maker.sample(5, 0).image, maker.sample(5, 1).image)


def test_mirrored_samples_keep_left_and_right(anatomy: Anatomy) -> None:
    """Left lies at low x, whether the anatomy was mirrored or not."""
    for key in range(6):
        shares = people(anatomy).sample(7, key).shares.float()
        places = torch.arange(WINDOW[0])[:, None, None]
        left, right = (
            (shares[c] * places).sum() / shares[c].sum() for c in (LEFT_CORTEX, RIGHT_CORTEX)
        )
        assert left < right


def test_an_image_is_the_mean_of_what_its_voxels_cover(anatomy: Anatomy) -> None:
    """With no texture, noise or bias a voxel half of cortex lies between cortex and fluid."""
    plain = people(
        anatomy, bias=0.0, noise=0.0, gamma=0.0, slice_share=0.0, tissue_share=0.0, t1_share=1.0
    )
    sample = plain.sample(11, 0)
    image, shares = sample.image[0], sample.shares.float()
    cortex = shares[LEFT_CORTEX] + shares[RIGHT_CORTEX]
    inner = image[cortex == 1].median()
    for share in (0.25, 0.5, 0.75):
        edge = image[(cortex == share) & (image != 0)].median()
        assert edge < inner
    quarter, three = (image[(cortex == s) & (image != 0)].median() for s in (0.25, 0.75))
    assert quarter < three


def test_a_scan_to_judge_by_has_the_files_grid_and_the_labels_ids(folder: Path) -> None:
    case = painted(folder, 13, 0, PERSON)
    ids = ids_of_a_head()
    assert case.scan.shape == ids.shape == case.truth.shape
    assert set(np.unique(case.truth)) == {0, 2, 3, 41, 42}
    assert (case.scan.array[0][case.truth > 0] > 0).all()
    head, other = painted(folder, 13, 0, HEAD), painted(folder, 13, 0, ANY_CONTRAST)
    assert (head.scan.array > 0).sum() > 1.5 * (case.scan.array > 0).sum()
    assert not np.array_equal(other.scan.array, case.scan.array)
    assert np.array_equal(painted(folder, 13, 0, PERSON).scan.array, case.scan.array)


def test_spoiled_scans_are_of_the_same_person(folder: Path) -> None:
    clean = painted(folder, 13, 0, PERSON).scan.array[0]
    by_group = {case.group: case for case in spoiled_cases(folder, (13,))}
    assert len(by_group) == 6
    inside = clean > 0
    inverted = by_group["inverted"].scan.array[0][inside]
    assert np.corrcoef(inverted, clean[inside])[0, 1] == pytest.approx(-1, abs=1e-3)
    thick = by_group["1 x 1 x 4 mm"]
    assert thick.scan.shape[2] * 4 in range(clean.shape[2] - 3, clean.shape[2] + 1)
    assert thick.truth.shape == thick.scan.shape


def test_people_train_the_bundled_layout(anatomy: Anatomy, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SCD(
            preset(
                "brain-structures",
                window=WINDOW,
                embed_dim=24,
                num_heads=4,
                depth=4,
                completion_dim=24,
                feature_size=4,
            )
        )
    config = TrainConfig(
        steps=16, lr=5e-3, warmup_steps=2, token_weight=0.5, score_weight=0.2, keep_range=(0.2, 1.0)
    )
    sampler = People([anatomy], WINDOW, PeopleConfig())
    losses = [
        e.loss
        for e in train(model, config, TrainSetup(sampler, tmp_path))
        if isinstance(e, StepDone)
    ]
    assert np.mean(losses[-4:]) < 0.85 * np.mean(losses[:4])
