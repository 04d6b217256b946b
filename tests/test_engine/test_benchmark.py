from collections.abc import Callable

import numpy as np
import pytest

from napari_tokensparse.data.volume import Volume
from napari_tokensparse.engine.benchmark import (
    FULL,
    KEEP_RATIOS,
    PARTS,
    TOTAL,
    UPDATE,
    costs,
    gmacs,
    preview_timings,
    update_gmacs,
)
from napari_tokensparse.engine.preview import PreviewSession
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD


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
    found = gmacs(preset(name), keep_ratio)
    assert found[TOTAL] == pytest.approx(expected, rel=0.005)
    assert sum(found[part] for part in PARTS) == pytest.approx(found[TOTAL])
    assert found["decoder"] == pytest.approx({"btcv": 55.7, "brats": 134.4}[name], rel=0.005)


@pytest.mark.parametrize(("name", "expected"), [("btcv", 258.3), ("brats", 798.3)])
def test_the_dense_baselines_cost_what_was_recomputed(name: str, expected: float) -> None:
    dense = preset(name, prune_after=(), keep_ratio=(), completion="none")
    found = gmacs(dense, 1.0)
    assert found[TOTAL] == pytest.approx(expected, rel=0.005)
    assert found["pruning"] == found["completion"] == 0.0


def test_every_preset_ratio_and_part_has_a_row() -> None:
    rows = costs(("small",))
    assert len(rows) == (len(KEEP_RATIOS) + 1) * (len(PARTS) + 1)
    totals = [r.gmacs for r in rows if r.part == TOTAL and r.variant == "scd"]
    assert totals == sorted(totals)


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


def test_a_preview_is_timed_whole_and_updated_at_every_keep_ratio(
    make_model: Callable[..., SCD],
) -> None:
    model = make_model()
    begun: list[None] = []
    model.encoder.patch_embed.register_forward_hook(lambda *_: begun.append(None))
    volume = Volume(np.ones((1, 32, 32, 32), np.float32), np.eye(4), "scan")
    rows = preview_timings(PreviewSession(volume, model), rounds=1)
    assert [(r.part, r.keep_ratio) for r in rows] == [
        (part, ratio) for ratio in KEEP_RATIOS for part in (FULL, UPDATE)
    ]
    assert len(begun) == 2 * len(KEEP_RATIOS)  # with the warm-up, once for each whole window
    assert all(r.seconds > 0 and r.threads >= 1 for r in rows)
    for whole, update in zip(rows[::2], rows[1::2], strict=True):
        assert whole.gmacs == gmacs(model.config, whole.keep_ratio)[TOTAL]
        assert update.gmacs == update_gmacs(model.config, update.keep_ratio) < whole.gmacs
