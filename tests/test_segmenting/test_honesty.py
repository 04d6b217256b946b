"""The sample brain gives the same labels whichever backend runs, and the same bytes each time."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_tokensparse.compute.backends.choice import make_backend
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.scd import SCD, SCDOutput
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.windowing import windowed
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.samples import sample_path
from napari_tokensparse.volumes.volume import Volume, write_nifti

SLIDER = [n / 20 for n in range(1, 21)]


@pytest.fixture(scope="module")
def volume() -> Volume:
    return read_volume(sample_path())


@pytest.fixture(scope="module")
def model() -> SCD:
    return load_model("brain-structures")


def compared(volume: Volume, model: SCD, keep_ratio: float, **asked: Any) -> float:
    """Segment by the fast and by the plain path; return the share of voxels labelled alike."""
    fast, plain = (
        segment(volume, model, keep_ratio, backend=name, **asked) for name in ("openvino", "plain")
    )
    assert (fast.stats.backend, plain.stats.backend) == ("openvino", "plain")
    assert (fast.tokens.pruned_at == plain.tokens.pruned_at).mean() >= 0.999
    for one, other in zip(fast.tokens.importance, plain.tokens.importance, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)
    return float((fast.labels == plain.labels).mean())


@pytest.mark.parametrize(("keep_ratio", "sharpen"), [(0.1, False), (0.5, True)])
def test_openvino_gives_the_labels_of_torch(
    volume: Volume, model: SCD, keep_ratio: float, sharpen: bool
) -> None:
    pytest.importorskip("napari_tokensparse.compute.backends.ov", exc_type=ImportError)
    assert compared(volume, model, keep_ratio, sharpen=sharpen) >= 0.9999


@pytest.mark.deep
def test_every_path_gives_the_same_at_every_keep_ratio_of_the_slider(
    volume: Volume, model: SCD, figures: Callable[[str, dict[str, Any]], None]
) -> None:
    pytest.importorskip("napari_tokensparse.compute.backends.ov", exc_type=ImportError)
    assert model.info is not None
    cut = windowed(volume, model.config, model.info, model.info.overlap)
    window = cut.grid.cut(cut.image, cut.grid.starts[0])[None]
    plain = make_backend(model, "plain")
    contiguous = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    others: dict[str, Callable[..., SCDOutput]] = {
        "the fast path": make_backend(model, "openvino"),
        "another layout of weights": make_backend(contiguous, "plain"),
        "two windows at once": lambda x, *a, **o: plain(x.repeat(2, 1, 1, 1, 1), *a, **o),
    }
    h, w, d = model.config.grid
    scores = torch.rand(2, h * w * d, generator=torch.Generator().manual_seed(0)).log()
    scores = scores[:1].repeat(2, 1)  # the same ids for all
    alike, off = [], dict.fromkeys(others, 0.0)
    for keep_ratio in SLIDER:
        alike.append(compared(volume, model, keep_ratio))
        wanted = plain(window, keep_ratio, token_scores=scores[:1]).logits[0]
        for name, other in others.items():
            rows = 2 if name == "two windows at once" else 1
            logits = other(window, keep_ratio, token_scores=scores[:rows]).logits[0]
            off[name] = max(off[name], float((logits - wanted).abs().max()))
    figures("honesty", {"keep_ratios": len(SLIDER), "alike": min(alike), "logits": off})
    assert min(alike) >= 0.9999
    assert max(off.values()) <= 1e-4


def test_the_same_run_gives_the_same_bytes(volume: Volume, model: SCD, tmp_path: Path) -> None:
    written = []
    for number in range(2):
        result = segment(volume, model, 0.25)
        path = write_nifti(tmp_path / f"{number}.nii.gz", result.labels, volume)
        maps = (*result.tokens.importance, result.tokens.pruned_at)
        written.append((path.read_bytes(), *(values.tobytes() for values in maps)))
    assert written[0] == written[1]
