from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_tokensparse.compute.batching import windows_at_once
from napari_tokensparse.model.controls import Scorer
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.segmenting import run as run_module
from napari_tokensparse.segmenting.infer import Segmentation, segment
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.volume import Volume

MakeModel = Callable[..., SCD]
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "windows", "at_once"),
    [
        *[("nano", 0, 1), ("nano", 1, 1), ("nano", 8, 8), ("nano", 9, 5), ("nano", 100, 8)],
        *[("small", 100, 1), ("btcv", 100, 1), ("brain-structures", 2, 1)],
    ],
)
def test_on_a_cpu_only_small_windows_are_run_at_once(name: str, windows: int, at_once: int) -> None:
    assert windows_at_once(preset(name), windows, CPU) == at_once


@pytest.mark.parametrize(("gigabytes", "at_once"), [(80, 4), (16, 4), (8, 3), (1, 1)])
def test_on_a_gpu_its_memory_limits_how_many_windows_are_run_at_once(
    monkeypatch: pytest.MonkeyPatch, gigabytes: int, at_once: int
) -> None:
    gpu = SimpleNamespace(total_memory=gigabytes * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    assert windows_at_once(preset("btcv"), 100, torch.device("cuda")) == at_once


def volume() -> Volume:
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(18, 12, 9)).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    return Volume((coarse + 0.3 * rng.normal(size=coarse.shape))[None], np.eye(4), "scan")


@pytest.fixture
def run_with(
    monkeypatch: pytest.MonkeyPatch, make_model: MakeModel
) -> Callable[..., tuple[Segmentation, list[int]]]:
    """Segment with so many windows at once; returns the sizes of the passes, too."""
    model = make_model()

    def run(at_once: int, scorer: Scorer, region: Box | None) -> tuple[Segmentation, list[int]]:
        monkeypatch.setattr(run_module, "windows_at_once", lambda *_: at_once)
        sizes: list[int] = []
        hook = model.register_forward_hook(lambda _, given, out: sizes.append(len(given[0])))
        done = segment(volume(), model, 0.5, scorer=scorer, region=region)
        hook.remove()
        return done, sizes

    return run


@pytest.mark.parametrize("scorer", ["learned", "random", "intensity"])
@pytest.mark.parametrize("region", [None, Box((40, 0, 0), (64, 48, 36))])
def test_results_do_not_depend_on_how_many_windows_are_run_at_once(
    run_with: Callable[..., tuple[Segmentation, list[int]]], scorer: Scorer, region: Box | None
) -> None:
    alone, sizes = run_with(1, scorer, region)
    windows = alone.stats.windows
    assert sizes == [1] * windows
    assert windows > 5
    together, sizes = run_with(5, scorer, region)
    assert sizes == [5] * -(-windows // 5)  # passes are filled up: their size decides last digits
    assert (together.labels != alone.labels).mean() < 1e-3
    assert np.array_equal(together.tokens.pruned_at, alone.tokens.pruned_at)
    for one, other in zip(together.tokens.importance, alone.tokens.importance, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)
    assert together.stats.windows == windows
    assert together.stats.tokens == alone.stats.tokens
