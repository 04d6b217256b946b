import pytest
import torch

from napari_tokensparse.model.controls import SCORERS, Scorer, control_scores
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

PATCH = 4


def scores(scorer: Scorer, image: torch.Tensor, seed: int = 0, background: float = 0.0):  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(seed)
    return control_scores(scorer, image, PATCH, background, generator)


def patches(values: torch.Tensor) -> torch.Tensor:
    """Fill the patches of a 2 x 2 x 3 grid, given in grid order, with one value each."""
    image = values.reshape(1, 1, 2, 2, 3).float()
    for axis in (2, 3, 4):
        image = image.repeat_interleave(PATCH, axis)
    return image


ORDER = torch.tensor([7, 3, 11, 0, 5, 9, 1, 10, 2, 8, 4, 6])


def test_the_models_own_scorer_is_left_alone() -> None:
    assert scores("learned", patches(ORDER)) is None


@pytest.mark.parametrize(
    ("scale", "shift"), [(1.0, 0.0), (100.0, 0.0), (100.0, -1000.0), (1e-4, 0.0), (1.0, 1000.0)]
)
def test_intensity_ranks_patches_by_their_mean_whatever_the_unit(
    scale: float, shift: float
) -> None:
    image = scale * patches(ORDER) + shift
    noise = torch.randn(image.shape)
    noise -= torch.nn.functional.avg_pool3d(noise, PATCH).mean()
    measured = scores("intensity", image + 0.1 * scale * noise)
    assert measured.shape == (1, 12)
    assert measured[0].argsort().tolist() == ORDER.argsort().tolist()
    assert len(measured.unique()) == 12
    assert torch.all((measured.exp() > 0) & (measured.exp() < 1))


def test_patches_of_one_intensity_are_all_alike() -> None:
    measured = scores("intensity", torch.full((1, 1, 8, 8, 12), 3.0))
    assert torch.isfinite(measured).all()
    assert len(measured.unique()) == 1


def test_intensity_is_averaged_over_channels() -> None:
    bright, dark = patches(ORDER), patches(-3.0 * ORDER)
    measured = scores("intensity", torch.cat([bright, dark], dim=1))
    assert measured[0].argsort().tolist() == (-ORDER).argsort().tolist()


@pytest.mark.parametrize("background", [0.0, -1000.0])
def test_foreground_ranks_patches_by_their_share_of_it(background: float) -> None:
    image = torch.full((1, 1, 8, 8, 12), background)
    voxels = image.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).unfold(4, PATCH, PATCH)
    for n, count in enumerate(ORDER.tolist()):  # so many foreground voxels, as dark as can be
        h, w, d = n // 6, n // 3 % 2, n % 3
        patch = voxels[0, 0, h, w, d]
        for voxel in range(count):
            patch[0, voxel // PATCH, voxel % PATCH] = background - 5.0
    measured = scores("foreground", image, background=background)
    assert measured[0].argsort().tolist() == ORDER.argsort().tolist()
    assert scores("intensity", image)[0].argmax() != measured[0].argmax()


def test_random_scores_are_keyed_by_the_generator_and_blind_to_the_image() -> None:
    one, other = patches(ORDER), patches(ORDER.flip(0))
    assert torch.equal(scores("random", one, seed=1), scores("random", other, seed=1))
    assert not torch.equal(scores("random", one, seed=1), scores("random", one, seed=2))
    measured = scores("random", one)
    assert measured.shape == (1, 12)
    assert torch.all((measured.exp() > 0) & (measured.exp() < 1))


@pytest.mark.parametrize("scorer", SCORERS[1:])
def test_a_control_decides_every_stage_of_the_network(scorer: Scorer) -> None:
    model = SCD(preset("nano")).eval()
    image = torch.randn(2, 1, 32, 32, 32)
    given = control_scores(scorer, image, 8, 0.0, torch.Generator().manual_seed(0))
    assert given is not None
    with torch.inference_mode():
        trace = model(image, 0.5, token_scores=given).trace
    best = given.argsort(dim=1, descending=True, stable=True)
    assert torch.equal(trace.kept, best[:, :8].sort(dim=1).values)
    assert torch.equal(trace.pruned[0], best[:, 32:].sort(dim=1).values)
    assert torch.equal(trace.scores[0], given)
    live = best[:, :32].sort(dim=1).values
    assert torch.equal(trace.scores[1], given.gather(1, live))


def test_without_its_blocks_the_encoder_hands_on_the_embedded_patches() -> None:
    model = SCD(preset("nano", prune_after=(), keep_ratio=())).eval()
    taken: list[torch.Tensor] = []
    model.encoder.norm.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.inference_mode():
        model(image, skip_blocks=True)
        assert torch.equal(taken[0], model.encoder.embed(image))
