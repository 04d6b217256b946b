"""Networks that crop their windows to what they hold, through all that is done with a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.data.utils import compute_importance_map

from napari_tokensparse.benchmarks.macs import gmacs, volume_gmacs
from napari_tokensparse.compute.backends.choice import make_backend
from napari_tokensparse.inspecting.audit import audit
from napari_tokensparse.inspecting.sweep import sweep
from napari_tokensparse.inspecting.tokens import token_at
from napari_tokensparse.model.crop import whole_box
from napari_tokensparse.segmenting import run as running
from napari_tokensparse.segmenting.estimating import estimate as estimates
from napari_tokensparse.segmenting.estimating import outline, rates
from napari_tokensparse.segmenting.estimating.estimate import estimate
from napari_tokensparse.segmenting.estimating.rates import Rates, measuring, value_of
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.segmenting.preview import PreviewSession
from napari_tokensparse.segmenting.stitch import Frame
from napari_tokensparse.segmenting.tokenmaps import window_maps
from napari_tokensparse.segmenting.windowing import windowed
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_tokensparse.model.crop import TokenBox
    from napari_tokensparse.model.scd import SCD, SCDOutput
    from napari_tokensparse.segmenting.windowing import Windowed

    MakeModel = Callable[..., SCD]

FINER = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.3, 1.2], "mode": "bilinear"}


def block(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Make soft structures, none of them empty."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=[-(-n // 4) for n in shape])
    fine = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[tuple(map(slice, shape))]
    return (5 + fine + 0.3 * rng.normal(size=shape)).astype(np.float32)


def one_window() -> Volume:
    """Make air round a block that reaches over tokens 2-5, 1-3 and 0-2 of 8, 6 and 4."""
    array = np.zeros((1, 32, 24, 16), np.float32)
    array[0, 9:22, 5:15, :12] = block(13, 10, 12)
    return Volume(array, np.eye(4), "one")


def many_windows() -> Volume:
    """Make two bodies in air; overlapping windows hold other parts of them."""
    array = np.zeros((1, 68, 48, 28), np.float32)
    array[0, 6:40, 9:22, 3:20] = block(34, 13, 17)
    array[0, 49:61, 30:41, 12:25] = block(12, 11, 13, seed=1)
    return Volume(array, np.eye(4), "many")


def few_windows() -> Volume:
    """Cut the larger body out of `many_windows`, in two windows along each axis but the last."""
    return Volume(many_windows().array[:, :44, :28, :20], np.eye(4), "few")


def looked_at(model: SCD, seen: Windowed, ratio: float) -> list[tuple[Any, SCDOutput]]:
    """Run every window by itself that holds anything."""
    with torch.inference_mode():
        return [
            (start, model(seen.grid.cut(seen.image, start)[None], ratio))
            for start in seen.grid.starts
            if seen.is_foreground(start)
        ]


def box_of(model: SCD, out: SCDOutput) -> TokenBox:
    return out.box or whole_box(model.config)


def within(start: tuple[int, int, int], box: TokenBox) -> tuple[slice, slice, slice]:
    h, w, d = (slice(at + s.start, at + s.stop) for at, s in zip(start, box.voxels, strict=True))
    return h, w, d


def values_of(model: SCD) -> NDArray[np.int64]:
    assert model.info is not None
    return np.array(model.info.label_values)


def test_labels_of_one_window_are_the_networks_and_background_outside(
    make_cropping: MakeModel,
) -> None:
    model, volume = make_cropping(), one_window()
    result = segment(volume, model, 0.5, backend="plain")
    with torch.inference_mode():
        out = model(torch.from_numpy(volume.array)[None], 0.5)
    expected = values_of(model)[out.logits[0].argmax(dim=0).numpy()]
    assert np.array_equal(result.labels, expected)
    assert len(np.unique(expected[within((0, 0, 0), box_of(model, out))])) >= 3
    outside = np.ones(expected.shape, bool)
    outside[within((0, 0, 0), box_of(model, out))] = False
    assert not result.labels[outside].any()


def test_a_voxel_is_decided_by_the_windows_that_looked_at_it(make_cropping: MakeModel) -> None:
    """One window cropped it away, another one did not: the latter decides alone."""
    model, volume = make_cropping(), many_windows()
    assert model.info is not None
    seen = windowed(volume, model.config, model.info, model.info.overlap)
    weight = compute_importance_map((32, 24, 16), mode="gaussian", sigma_scale=0.125)
    sums, weights = torch.zeros(4, *seen.grid.padded), torch.zeros(seen.grid.padded)
    runs = looked_at(model, seen, 0.5)
    for start, out in runs:
        box = box_of(model, out)
        here = within(start, box)
        sums[(slice(None), *here)] += out.inside[0] * weight[box.voxels]
        weights[here] += weight[box.voxels]
    logits = torch.where(weights > 0, sums / weights, model.around.view(4, 1, 1, 1))
    inner = tuple(slice(b, b + n) for b, n in zip(seen.grid.before, volume.shape, strict=True))
    expected = values_of(model)[logits.argmax(dim=0).numpy()][inner]
    best = logits.topk(2, dim=0).values
    clear = (best[0] - best[1]).numpy()[inner] > 1e-3
    labels = segment(volume, model, 0.5, backend="plain").labels
    assert clear.mean() > 0.98
    assert np.array_equal(labels[clear], expected[clear])
    looks = torch.zeros(seen.grid.padded)
    for start, out in runs:
        looks[within(start, whole_box(model.config))] += 1
        looks[within(start, box_of(model, out))] -= 1
    assert len({out.box.size for _, out in runs if out.box is not None}) > 3
    assert labels[((looks > 0) & (weights > 0)).numpy()[inner]].any()  # cropped away by some only


@pytest.mark.parametrize("steps", [(), (FINER,)])
@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("scan", [one_window, many_windows])
def test_what_is_left_out_of_stitching_is_background(
    make_cropping: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
    scan: Callable[[], Volume],
    exclusive: bool,
    steps: tuple[dict[str, Any], ...],
) -> None:
    """Labels, at the edge of the boxes too, are those of stitching the whole volume."""
    model, volume = make_cropping(preprocessing=steps, exclusive=exclusive), scan()
    framed = segment(volume, model, 0.5, backend="plain")
    whole = lambda grid, _, around: Frame((0, 0, 0), grid.padded, around)  # noqa: E731
    monkeypatch.setattr(running, "frame_of", whole)
    expected = segment(volume, model, 0.5, backend="plain")
    assert np.array_equal(framed.labels, expected.labels)
    assert framed.labels.any()
    if not exclusive:
        assert framed.regions is not None and expected.regions is not None
        assert np.array_equal(framed.regions, expected.regions)


@pytest.mark.parametrize("steps", [(), (FINER,)])
@pytest.mark.parametrize(
    "box",
    [Box((10, 10, 5), (30, 20, 18)), Box((30, 15, 10), (55, 40, 20)), Box((0, 0, 0), (5, 5, 5))],
)
def test_inside_a_region_all_is_as_in_a_run_of_the_whole(
    make_cropping: MakeModel, box: Box, steps: tuple[dict[str, Any], ...]
) -> None:
    model, volume = make_cropping(preprocessing=steps), many_windows()
    whole = segment(volume, model, 0.5, backend="plain")
    part = segment(volume, model, 0.5, region=box, backend="plain")
    assert np.array_equal(part.labels[box.slices], whole.labels[box.slices])
    assert part.stats.windows <= whole.stats.windows
    for partial, expected in zip(
        (part.tokens.pruned_at, part.tokens.among[0], *part.tokens.importance),
        (whole.tokens.pruned_at, whole.tokens.among[0], *whole.tokens.importance),
        strict=True,
    ):
        shown, wanted = (
            maps.on_input_grid(values)[box.slices]
            for maps, values in ((part.tokens, partial), (whole.tokens, expected))
        )
        np.testing.assert_array_equal(shown, wanted)


def test_token_maps_say_what_was_not_looked_at(make_cropping: MakeModel) -> None:
    model, volume = make_cropping(), many_windows()
    assert model.info is not None
    result = segment(volume, model, 0.5, backend="plain")
    seen = windowed(volume, model.config, model.info, model.info.overlap)
    most = 0
    for start, out in looked_at(model, seen, 0.5):
        box = box_of(model, out)
        size = int(np.prod(box.size))
        most = max(most, size)
        owned = seen.grid.owned(start)
        local = tuple(
            slice(o.start - s // 4, o.stop - s // 4) for o, s in zip(owned, start, strict=True)
        )
        importance, pruned_at = window_maps(out.trace, 0, model.config.grid)
        assert np.array_equal(result.tokens.pruned_at[owned], pruned_at[local])
        assert np.array_equal(result.tokens.importance[0][owned], importance[0][local], True)
        among = np.zeros(model.config.grid, int)
        among[tuple(slice(a, b) for a, b in zip(box.first, box.end, strict=True))] = size
        assert np.array_equal(result.tokens.among[0][owned], among[local])
    assert (result.tokens.pruned_at == 0).mean() > 0.3
    assert (result.tokens.pruned_at > 0).any()
    assert result.stats.tokens_per_stage == (most, most // 2, most // 2 // 2)
    assert max(map(np.prod, result.stats.looked_at)) == most
    assert len(result.stats.looked_at) == result.stats.windows


def test_a_tokens_place_is_among_those_that_its_window_looked_at(make_cropping: MakeModel) -> None:
    model, volume = make_cropping(), many_windows()
    assert model.info is not None
    result = segment(volume, model, 0.5, backend="plain")
    places = set()
    for voxel in ((20, 15, 10), (55, 35, 18)):
        token = token_at(result, voxel, volume, model.info)
        assert token is not None
        first = token.stages[0]
        assert first.of == result.tokens.among[0][token.position]
        assert first.place == 1 + round((1 - first.rank) * (first.of - 1))
        assert 1 <= first.place <= first.of
        places.add(first.of)
    assert len(places) == 2
    air = token_at(result, (64, 4, 2), volume, model.info)
    assert air is not None and air.stages == () and air.predicted == "background"


@pytest.mark.parametrize("decoder", ["gated-pyramid", "coarse-to-fine"])
@pytest.mark.parametrize("ratio", [1.0, 0.3])
def test_a_preview_is_the_run(make_cropping: MakeModel, ratio: float, decoder: str) -> None:
    model, volume = make_cropping(decoder=decoder), one_window()
    session = PreviewSession(volume, model)
    preview = session.update(ratio)
    assert np.array_equal(preview.labels, segment(volume, model, ratio, backend="plain").labels)
    assert session.looked_at == (4, 3, 3)
    assert preview.trace is not None
    with torch.inference_mode():
        out = model(torch.from_numpy(volume.array)[None], ratio)
    assert torch.equal(session.run((ratio, ratio)).logits, out.logits)
    assert torch.equal(preview.trace.kept, out.trace.kept)
    assert session.update(0.5).trace.kept.shape == (1, 9)  # type: ignore[union-attr]


@pytest.mark.parametrize("decoder", ["gated-pyramid", "coarse-to-fine"])
def test_a_sweep_counts_what_was_computed_and_an_audit_finds_no_change_without_pruning(
    make_cropping: MakeModel, decoder: str
) -> None:
    model, volume = make_cropping(depth=5, decoder=decoder), few_windows()
    assert model.info is not None
    seen = windowed(volume, model.config, model.info, model.info.overlap)
    result = sweep(volume, model, [0.25], scorers=["learned"])
    for point in result.points:
        sizes = [box_of(model, out).size for _, out in looked_at(model, seen, point.keep_ratio)]
        counted = volume_gmacs(model.config, point.keep_ratio, sizes)
        assert point.gmacs == pytest.approx(counted)
        assert point.gmacs < 0.9 * len(sizes) * gmacs(model.config, point.keep_ratio)["total"]
    assert result.points[0].tokens == result.points[1].tokens
    assert not audit(volume, model, 1.0).difference.any()
    assert audit(volume, model, 0.1).difference.any()


@pytest.mark.parametrize("thinned", [False, True])
def test_an_outline_tells_what_will_be_looked_at(
    make_cropping: MakeModel, monkeypatch: pytest.MonkeyPatch, thinned: bool
) -> None:
    model, volume = make_cropping(), many_windows()
    assert model.info is not None
    if thinned:
        monkeypatch.setattr(outline, "_VOXELS", volume.array.size // 4)
    outlined = outline.outline(volume, model.config, model.info)
    run = segment(volume, model, 0.5, backend="plain")
    exact = [np.prod(size) / np.prod(model.config.grid) for size in run.stats.looked_at]
    assert outlined.windows == run.stats.windows
    assert outlined.looked_at == pytest.approx(exact, abs=0.25 if thinned else 1e-9)
    assert sum(outlined.looked_at) == pytest.approx(sum(exact), rel=0.2 if thinned else 1e-9)
    covered = 1.0
    for first, end, n in ((4, 64, 68), (8, 44, 48), (0, 28, 28)):  # the bodies, in whole tokens
        covered *= (end - first) / n
    assert outlined.inside == pytest.approx(covered, rel=0.2 if thinned else 0.1)


def test_seconds_follow_what_is_looked_at(
    make_cropping: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Rates(
        start=0.5,
        network=(2.0, 4.0, 8.0),
        stitch=1.0,
        label=(1e-4, 2e-4),
        sharpen=(0.0, 0.0),
        likely=0.0,
        prepare=(0.0, 0.0),
    )

    def known(*_: Any) -> Iterator[None]:
        yield
        return measured

    monkeypatch.setattr(estimates, "calibrating", known)
    estimated = estimate(one_window(), make_cropping(), (0.5, 0.5))
    share = 36 / 192
    seen = (4 * 0.5 + 8 * 0.25) / 12  # of tokens, by blocks 1-4 and 5-12
    pairs = (4 * 0.25 + 8 * 0.0625) / 12
    network = share * (2 + 4 * seen) + share**2 * 8 * pairs
    labelled = 36 * 64 * (1e-4 + 2e-4)
    assert estimated.seconds == pytest.approx(0.5 + network + share * 1.0 + labelled, rel=1e-6)


def test_a_measurement_tells_the_cost_of_a_share(
    make_cropping: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds that grow with the tokens of what is looked at are found to do so."""
    monkeypatch.setattr(rates, "_PHANTOM", 32**3)
    model, now = make_cropping(), [0.0]

    def spend(_: Any, given: Any, out: SCDOutput) -> None:
        tokens = model.config.grid if out.box is None else out.box.size
        now[0] += float(np.prod(tokens)) / float(np.prod(model.config.grid))

    hook = model.register_forward_hook(spend)
    measured = value_of(measuring(make_backend(model, "plain"), lambda: now[0]))
    hook.remove()
    assert measured.network == pytest.approx((1.0, 0.0, 0.0), abs=1e-6)
