"""Maps say what became of tokens, and which ones a person has pinned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_tokensparse.inspecting.fates import fate_map, pruned_at_fates, stage_fates
from napari_tokensparse.inspecting.tokens import token_at
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.pins import written
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_tokensparse.model.scd import SCD


@pytest.fixture(scope="module")
def model(make_model: Callable[..., SCD]) -> SCD:
    return make_model()


@pytest.fixture(scope="module")
def volume() -> Volume:
    noise = np.random.default_rng(0).normal(size=(1, 32, 32, 32)).astype(np.float32)
    return Volume(noise, np.eye(4), "noise")


def test_pinned_tokens_have_values_and_names_of_their_own(model: SCD, volume: Volume) -> None:
    free = segment(volume, model, 0.5).tokens
    stages = free.stages
    assert fate_map(free) is free.pruned_at and len(pruned_at_fates(free)) == stages + 2
    lost, kept = free.pruned_at == 1, free.pruned_at == stages + 1
    result = segment(volume, model, 0.5, pin=written(lost), drop=written(kept))
    fates = fate_map(result.tokens)
    assert (fates[lost] == stages + 2).all() and (fates[kept] == stages + 3).all()
    neither = ~(lost | kept)
    assert np.array_equal(fates[neither], result.tokens.pruned_at[neither])
    *_, keeps, drops = pruned_at_fates(result.tokens)
    assert (keeps.name, keeps.tokens) == ("pinned: kept to the end", lost.sum())
    assert (drops.name, drops.tokens) == ("pinned: dropped at stage 1", kept.sum())
    assert keeps.colour is not None and drops.colour not in (None, keeps.colour)
    assert stage_fates(result.tokens, 1)[-1].colour == drops.colour
    assert stage_fates(result.tokens, 2)[-1].colour is None  # it is gone by then
    for mask, pinned in ((lost, 1), (kept, -1), (neither, 0)):
        box = result.tokens.box(tuple(np.argwhere(mask)[0].tolist()))
        token = token_at(result, box.start, volume, model.info)
        assert token is not None and token.pinned == pinned
