from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from napari_tokensparse.compute import precision
from napari_tokensparse.compute.precision import (
    attention_gain,
    bfloat16_gain,
    has_bfloat16,
    mixed_precision,
)
from napari_tokensparse.model.layers import convolution

ZEN_4 = {"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}
SAPPHIRE_RAPIDS = {"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": True}
ICE_LAKE = {"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}
GRAVITON = {"architecture": "aarch64"}


@pytest.fixture
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what was asked of this processor, and what is asked of another one."""
    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path))
    asked = (has_bfloat16, bfloat16_gain, attention_gain)
    for each in asked:
        each.cache_clear()
    yield
    for each in asked:
        each.cache_clear()


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize(
    ("known", "supported", "has"),
    [
        (ZEN_4, True, True),
        (SAPPHIRE_RAPIDS, True, True),
        (ICE_LAKE, True, False),  # AVX-512, on which torch would do it by float32
        (GRAVITON, True, True),
        (GRAVITON, False, False),
        ({}, True, True),  # an older torch, which does not say
    ],
)
def test_the_processor_is_asked(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, Any], supported: bool, has: bool
) -> None:
    monkeypatch.setattr(precision, "operator", lambda _: lambda: supported)
    monkeypatch.setattr(torch, "cpu", SimpleNamespace(get_capabilities=lambda: known))
    assert has_bfloat16() == has


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("gain", [bfloat16_gain, attention_gain])
def test_the_gain_is_measured_where_there_are_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, gain: Callable[[], float]
) -> None:
    assert (gain() > 0.0) == has_bfloat16()
    gain.cache_clear()  # type: ignore[attr-defined]
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    assert gain() == 0.0


def ticking(monkeypatch: pytest.MonkeyPatch, float32: float, bfloat16: float) -> list[torch.dtype]:
    """Let work take so many seconds, and return what is done."""
    done: list[torch.dtype] = []
    now = [0.0]
    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])

    def prepared(dtype: torch.dtype) -> Callable[[], None]:
        def work() -> None:
            done.append(dtype)
            now[0] += float32 if dtype == torch.float32 else bfloat16

        return work

    prepared.__name__ = "convolution"
    monkeypatch.setattr(precision, "_convolution", prepared)
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    return done


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize(
    ("float32", "bfloat16", "rounds"), [(2.0, 1.0, 12), (1.0, 1.0, 12), (1.0, 2.0, 3)]
)
def test_both_are_measured_in_turns_and_what_is_hopeless_is_left_soon(
    monkeypatch: pytest.MonkeyPatch, float32: float, bfloat16: float, rounds: int
) -> None:
    done = ticking(monkeypatch, float32, bfloat16)
    assert bfloat16_gain() == pytest.approx(float32 / bfloat16)
    assert done == [torch.float32, torch.bfloat16] * (1 + rounds)


@pytest.mark.usefixtures("anew")
def test_what_was_measured_is_kept_for_a_machine_and_a_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = ticking(monkeypatch, 2.0, 1.0)
    for _ in range(2):  # as if in another process
        bfloat16_gain.cache_clear()
        assert bfloat16_gain() == pytest.approx(2.0)
    assert len(done) == 26
    (file,) = (tmp_path / "bfloat16").iterdir()
    file.write_text("half of")
    bfloat16_gain.cache_clear()
    bfloat16_gain()
    assert len(done) == 52
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    bfloat16_gain.cache_clear()
    bfloat16_gain()
    assert len(done) == 78


def test_the_measured_convolution_is_the_networks_own_and_draws_no_number() -> None:
    """torch itself would take a loop instead of oneDNN, and bfloat16 seem fifteen times as fast."""
    state = torch.get_rng_state()
    for dtype in (torch.float32, torch.bfloat16):
        work = precision._convolution(dtype)
        with torch.inference_mode(), torch.profiler.profile() as profile:
            maps = work()
        assert (maps.dtype, maps.shape) == (dtype, (1, 16, 32, 32, 32))
        assert float(maps[0, 0, 1, 1, 1]) == 16 * 27
        if dtype == torch.float32:
            names = {event.key for event in profile.key_averages()}
            assert "aten::mkldnn_convolution" in names or not convolution._HAS_ONEDNN, names
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("gain", "chosen"), [(0.0, "no"), (1.1, "no"), (1.3, "bf16")])
def test_auto_takes_bfloat16_on_a_cpu_only_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, gain: float, chosen: str
) -> None:
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: gain)
    assert mixed_precision("cpu", "auto") == chosen
    assert mixed_precision("mps", "auto") == "no"
    assert mixed_precision("cpu", "float32") == "no"
    assert mixed_precision("cpu", "bfloat16") == "bf16"
