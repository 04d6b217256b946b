from typing import Any

import pytest

from napari_tokensparse.model.config import SCDConfig
from napari_tokensparse.model.presets import PRESETS, preset

DENSE: dict[str, Any] = {"prune_after": (), "keep_ratio": (), "completion": "none"}


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
        (
            {"forgotten_stages": 4},
            "forgotten_stages 4: completion 'mta' with 3 stages can forget at most 3",
        ),
        (
            {"forgotten_stages": 1, "completion": "mask-token"},
            "forgotten_stages 1: completion 'mask-token' with 3 stages can forget at most 0",
        ),
        ({"prune_after": (-2, 5, 8)}, "prune_after (-2, 5, 8): must ascend within blocks 0 to 11"),
        (
            {"window": (32, 32, 48), "patch_size": 16},
            "patch_size 16: decoder 'unetr-x8-v2' needs 8",
        ),
        ({"window": (16, 32, 32)}, "token grid (2, 4, 4): decoder 'unetr-x8-v2' halves it"),
        ({"decoder": "unetr-x8", "patch_size": 4}, "patch_size 4: decoder 'unetr-x8' needs 8"),
        (
            {"decoder": "pup", "patch_size": 6, "window": (24, 24, 24)},
            "patch_size 6: decoder 'pup' doubles the map up to it, so it must be a power of 2",
        ),
        (
            {"decoder": "pup", "window": (8, 8, 8)},
            "token grid (1, 1, 1): decoder 'pup' normalises it over space, so it must have more "
            "than one token",
        ),
        (
            {"completion": "mta-no-linear", "completion_dim": 48},
            "completion_dim 48: without Linears it must be embed_dim 24",
        ),
        (
            {"predictor": "attention", "embed_dim": 4, "num_heads": 2},
            "embed_dim 4: the attention predictor works on a sixth of it",
        ),
        (
            {"completion": "none"},
            "completion 'none' is the dense baseline: prune_after (2, 5, 8) must be ()",
        ),
        *(
            (
                {**DENSE, "decoder": decoder},
                f"decoder '{decoder}': the dense baseline feeds skips from earlier blocks, so it "
                "needs one of unetr, unetr-x8, unetr-x8-v2",
            )
            for decoder in ("linear", "pup", "custom")
        ),
        ({**DENSE, "depth": 9}, "depth 9: the dense baseline's skips leave blocks (3, 6, 9)"),
        (
            {**DENSE, "depth": 8, "decoder": "unetr-x8"},
            "depth 8: the dense baseline's skips leave blocks (4, 8)",
        ),
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
        ({"predictor": "random"}, "predictor"),
        ({"share_predictor": "perhaps"}, "share_predictor"),
        ({"completion": "fusion"}, "completion"),
        ({"completion_depth": 0}, "completion_depth"),
    ],
)
def test_a_field_out_of_its_range_is_named(changes: dict[str, Any], field: str) -> None:
    assert field in refusal(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"decoder": "unetr-x8", "window": (8, 24, 40)},
        {"decoder": "unetr", "patch_size": 16, "window": (16, 48, 32)},
        {"decoder": "pup", "patch_size": 16, "window": (16, 16, 48)},
        {"decoder": "linear", "patch_size": 5, "window": (5, 5, 15)},
        {"decoder": "custom", "patch_size": 3, "window": (3, 3, 3)},
        {"predictor": "attention", "embed_dim": 18, "num_heads": 3},
        {"predictor": "attention", "share_predictor": True, "completion": "mta-no-linear"},
        {**DENSE, "depth": 10},
        {**DENSE, "depth": 9, "decoder": "unetr-x8", "completion_dim": 7},
        {"prune_after": (0, 1, 2), "depth": 3},
    ],
)
def test_what_fits_is_accepted(changes: dict[str, Any]) -> None:
    preset("nano", **changes)


def test_only_the_dense_baseline_has_skips_from_earlier_blocks() -> None:
    assert preset("nano").skip_after == ()
    assert preset("nano", **DENSE).skip_after == (3, 6, 9)
    assert preset("nano", **DENSE, decoder="unetr-x8").skip_after == (4, 8)


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


@pytest.mark.parametrize("decoder", ["unetr-x8-v2", "pup"])
def test_a_decoder_that_needs_even_or_more_tokens_gets_no_cropped_windows(decoder: str) -> None:
    with pytest.raises(ValueError, match=rf"crop_value 0: decoder '{decoder}' cannot decode boxes"):
        preset("nano", decoder=decoder, crop_value=0.0)
