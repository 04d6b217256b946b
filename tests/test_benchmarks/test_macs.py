import pytest

from napari_tokensparse.benchmarks.macs import (
    costs,
    gmacs,
    step_gmacs,
    unetr_gmacs,
    update_gmacs,
)
from napari_tokensparse.benchmarks.networks import KEEP_RATIOS, dense_of, has_unetr
from napari_tokensparse.benchmarks.parts import SCD_PARTS
from napari_tokensparse.benchmarks.report import TOTAL
from napari_tokensparse.model.presets import preset


@pytest.mark.parametrize(
    ("name", "keep_ratio", "expected"),
    [
        ("btcv", 1 - 0.9, 131.8),
        ("btcv", 0.25, 140.9),
        ("btcv", 0.5, 165.3),
        ("brats", 0.25, 403.8),
    ],
)
def test_the_papers_presets_cost_what_was_recomputed(
    name: str, keep_ratio: float, expected: float
) -> None:
    counts = gmacs(preset(name), keep_ratio)
    assert counts[TOTAL] == pytest.approx(expected, rel=0.005)
    assert sum(counts[part] for part in SCD_PARTS) == pytest.approx(counts[TOTAL])
    assert counts["decoder"] == pytest.approx({"btcv": 55.7, "brats": 134.4}[name], rel=0.005)


@pytest.mark.parametrize(("name", "expected"), [("btcv", 258.3), ("brats", 798.3)])
def test_the_dense_baselines_cost_what_was_recomputed(name: str, expected: float) -> None:
    counts = gmacs(dense_of(preset(name)), 1.0)
    assert counts[TOTAL] == pytest.approx(expected, rel=0.005)
    assert counts["pruning"] == counts["completion"] == 0.0


def test_every_preset_ratio_and_part_has_a_row() -> None:
    rows = costs(("small",))
    assert len(rows) == (len(KEEP_RATIOS) + 1) * (len(SCD_PARTS) + 1)
    totals = [r.gmacs for r in rows if r.part == TOTAL and r.variant == "scd"]
    assert totals == sorted(totals)


def test_a_lite_preset_has_no_baseline_of_its_own() -> None:
    assert {(r.preset, r.variant) for r in costs(("btcv-lite",), (0.25,))} == {("btcv-lite", "scd")}


def test_an_update_leaves_out_what_does_not_depend_on_the_keep_ratio() -> None:
    config = preset("nano", prune_after=(1,), keep_ratio=(0.5,), decoder="linear")
    dim, tokens, patch = 24, 64, 8**3
    embedding = tokens * patch * dim
    block = 65 * 12 * dim * dim + 2 * 65 * 65 * dim
    predictor = round(gmacs(config, 0.5)["pruning"] * 1e9)
    saved = round((gmacs(config, 0.5)[TOTAL] - update_gmacs(config, 0.5)) * 1e9)
    assert saved == embedding + 2 * block + predictor


def test_an_update_leaves_out_the_decoders_image_branch() -> None:
    config = preset("nano", in_channels=3, prune_after=(0,), keep_ratio=(0.5,))
    plain = config.model_copy(update={"decoder": "linear"})
    saved = [gmacs(c, 0.5)[TOTAL] - update_gmacs(c, 0.5) for c in (config, plain)]
    f, voxels = config.feature_size, 32**3
    assert (saved[0] - saved[1]) * 1e9 == pytest.approx(voxels * f * (27 * 3 + 27 * f + 3))


def test_a_backward_pass_costs_two_forward_ones_but_for_the_gradient_of_the_image() -> None:
    config = preset("nano", decoder="linear")
    forward, embedding = (gmacs(config, 0.5)[part] for part in (TOTAL, "patch embedding"))
    assert step_gmacs(config, 0.5) == pytest.approx(3 * forward - embedding)


@pytest.mark.skipif(not has_unetr(), reason="MONAI's UNETR needs einops")
def test_monais_unetr_has_an_eighth_of_the_tokens() -> None:
    config = preset("nano")
    theirs, ours = unetr_gmacs(config), gmacs(dense_of(config), 1.0)
    assert theirs["patch embedding"] == pytest.approx(ours["patch embedding"])  # all voxels, once
    dim, tokens = config.embed_dim, 2**3
    blocks = 12 * (tokens * 12 * dim * dim + 2 * tokens * tokens * dim)
    assert theirs["blocks"] == pytest.approx(blocks / 1e9)
    assert sum(n for part, n in theirs.items() if part != TOTAL) == pytest.approx(theirs[TOTAL])
