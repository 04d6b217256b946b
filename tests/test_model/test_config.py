from typing import Any

import pytest

from napari_tokensparse.model.config import SCDConfig
from napari_tokensparse.model.presets import PRESETS, preset


def refusal(**changes: Any) -> str:
    with pytest.raises(ValueError) as refused:
        preset("nano", **changes)
    return str(refused.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"window": (32, 32, 36)},
            "window (32, 32, 36): every side must be a multiple of the patch size 8",
        ),
        ({"patch_size": 16}, "patch_size 16: decoder 'unetr-x8-v2' needs 8"),
        ({"decoder": "unetr"}, "patch_size 8: decoder 'unetr' needs 16"),
        (
            {"window": (32, 40, 32)},
            "token grid (4, 5, 4): decoder 'unetr-x8-v2' halves it, so every side must be even "
            "and at least 4",
        ),
        ({"window": (32, 32, 16)}, "token grid (4, 4, 2): decoder 'unetr-x8-v2' halves it"),
        ({"num_heads": 5}, "embed_dim 24: must be a multiple of num_heads 5"),
        (
            {"embed_dim": 18, "num_heads": 2},
            "embed_dim 18: the score predictor halves it twice, so it must be a multiple of 4",
        ),
        ({"completion_heads": 5}, "completion_dim 24: must be a multiple of completion_heads 5"),
        ({"completion_dim": 16}, "completion_dim 16: the 3-D position table needs a multiple of 6"),
        ({"keep_ratio": (0.5, 1.5, 0.5)}, "keep ratio 1.5: must be in (0, 1]"),
        (
            {"keep_ratio": (0.5, 0.5)},
            "keep ratio (0.5, 0.5): give one number, or one per stage (3)",
        ),
        ({"prune_after": (2, 2, 8)}, "prune_after (2, 2, 8): must ascend within blocks 0 to 11"),
        ({"prune_after": (2, 5, 12)}, "prune_after (2, 5, 12): must ascend within blocks 0 to 11"),
        ({"prune_after": (-1, 5, 8)}, "prune_after (-1, 5, 8): must ascend within blocks 0 to 11"),
    ],
)
def test_choices_that_do_not_fit_together_are_refused_in_words(
    changes: dict[str, Any], line: str
) -> None:
    assert line in refusal(**changes)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"in_channels": 0}, "in_channels"),
        ({"out_channels": -1}, "out_channels"),
        ({"window": (32, 32)}, "window"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"drop_path": -0.1}, "drop_path"),
        ({"tau": 0.0}, "tau"),
        ({"perturbation": "uniform"}, "perturbation"),
        ({"decoder": "unet"}, "decoder"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_field_out_of_its_range_is_named(changes: dict[str, Any], field: str) -> None:
    assert field in refusal(**changes)


def test_a_config_is_frozen() -> None:
    config = preset("nano")
    with pytest.raises(ValueError, match="frozen"):
        config.depth = 3  # type: ignore[misc]


def test_a_config_comes_back_from_json_unchanged() -> None:
    config = preset("btcv")
    assert SCDConfig.model_validate_json(config.model_dump_json()) == config


def test_grid_and_stages_follow_from_the_fields() -> None:
    config = preset("nano", window=(32, 48, 64), prune_after=(0, 11), keep_ratio=(0.5, 0.25))
    assert (config.grid, config.stages) == ((4, 6, 8), 2)


def test_the_papers_presets_have_the_papers_sizes() -> None:
    btcv, brats = preset("btcv"), preset("brats")
    for config in (btcv, brats):
        assert (config.embed_dim, config.depth, config.num_heads) == (768, 12, 12)
        assert (config.completion_dim, config.completion_depth) == (768, 1)
        assert (config.patch_size, config.prune_after, config.tau) == (8, (2, 5, 8), 1.0)
        assert (config.decoder, config.feature_size) == ("unetr-x8-v2", 16)
        assert config.perturbation == "gumbel"
    assert (btcv.in_channels, btcv.out_channels, btcv.window) == (1, 14, (96, 96, 96))
    assert (brats.in_channels, brats.out_channels, brats.window) == (4, 3, (128, 128, 128))
    assert btcv.keep_ratio == (1 - 0.9,) * 3
    assert brats.keep_ratio == (1 - 0.75,) * 3
    assert (btcv.drop_path, brats.drop_path) == (0.1, 0.0)


def test_an_unknown_preset_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError) as refused:
        preset("huge")
    assert str(refused.value) == f"preset 'huge': choose one of {', '.join(PRESETS)}"
