from __future__ import annotations

import torch

from brain.looks import (
    FIRST_OUTSIDE,
    FLUID,
    LOOKS,
    OUTSIDE_IDS,
    PeopleConfig,
    paint_surroundings,
    random_looks,
)
from brain.structures import CLASS_COUNT, mirrored_classes
from napari_tokensparse.model.noise import keyed_generator

SOFT = FIRST_OUTSIDE + OUTSIDE_IDS.index(507)
SHAPE = (20, 22, 24)


def test_looks_are_alike_on_both_sides_and_t1s_are_bright_in_white_matter() -> None:
    mirrored = torch.from_numpy(mirrored_classes()).long()
    for key in range(20):
        rng = keyed_generator(3, key)
        mean, sd, _ = random_looks(PeopleConfig(t1_share=1.0), rng)
        assert mean.shape == sd.shape == (LOOKS,)
        assert torch.equal(mean[:CLASS_COUNT], mean[:CLASS_COUNT][mirrored])
        white, cortex, ventricle = mean[1], mean[2], mean[3]
        assert white > cortex > ventricle
    any_contrast = [
        random_looks(PeopleConfig(t1_share=0.0), keyed_generator(4, key))[0] for key in range(40)
    ]
    darker = sum(bool(mean[1] < mean[2]) for mean in any_contrast)
    assert 8 <= darker <= 32


def test_t1_looks_are_turned_round_where_they_are_to_be() -> None:
    turned = PeopleConfig(t1_share=1.0, inverted_share=1.0)
    for key in range(8):
        plain = random_looks(PeopleConfig(t1_share=1.0), keyed_generator(8, key))
        looks = random_looks(turned, keyed_generator(8, key))
        torch.testing.assert_close(looks.mean[1:], (1 - plain.mean[1:]).clamp(min=0.02))
        assert plain.t1 and not looks.t1 and float(looks.mean[0]) <= 0.02


def test_weighted_looks_have_grey_matter_brighter_than_white() -> None:
    config = PeopleConfig(t1_share=0.0, weighted_share=1.0)
    fluid_is_dark = 0
    for key in range(60):
        mean, _, t1 = random_looks(config, keyed_generator(8, key))
        assert not t1
        assert -0.1 < mean[2] - mean[1] < 0.4  # cortex and white matter of the left
        fluid_is_dark += bool(mean[3] < mean[1])
    assert 10 <= fluid_is_dark <= 30  # a third of them is FLAIR


def test_soft_tissue_is_fat_in_places_and_the_brain_stays_as_it_is() -> None:
    which = torch.full((*SHAPE, 8), SOFT)
    which[:8] = 1  # white matter
    which[8] = FLUID
    brighter = 0
    for key in range(30):
        rng = keyed_generator(5, key)
        looks = random_looks(PeopleConfig(t1_share=1.0), rng)
        assert looks.t1
        image = looks.mean[which]
        painted = paint_surroundings(image, which, looks, 3.0, rng)
        assert torch.equal(painted[:9], image[:9])
        outside = painted[9:]
        assert (outside >= 0).all() and len(outside.unique()) > 100
        brighter += bool((outside > looks.mean[1]).any() and (outside < looks.mean[2]).any())
    assert brighter > 15  # fat and muscle in the same head


def test_what_lies_outside_is_painted_by_the_key_alone() -> None:
    which = torch.full((*SHAPE, 8), SOFT)
    looks = random_looks(PeopleConfig(t1_share=0.0), keyed_generator(6, 0))
    one, same, other = (
        paint_surroundings(looks.mean[which], which, looks, 3.0, keyed_generator(7, key))
        for key in (1, 1, 2)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)
