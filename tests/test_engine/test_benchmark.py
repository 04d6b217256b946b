import pytest

from napari_tokensparse.engine.benchmark import KEEP_RATIOS, PARTS, TOTAL, costs, gmacs
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
