from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_tokensparse.model.crop import TokenBox, content_box
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import OUTSIDE, SCD

PYRAMID: dict[str, Any] = {
    "out_channels": 3,
    "window": (32, 24, 16),
    "patch_size": 4,
    "prune_after": (-1, 3),
    "keep_ratio": (0.5, 0.5),
    "forgotten_stages": 1,
    "completion_positions": False,
    "decoder": "gated-pyramid",
    "crop_value": 0.0,
}


def network(**changes: Any) -> SCD:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = SCD(preset("nano", **{**PYRAMID, **changes})).eval()
        with torch.no_grad():
            for parameter in model.encoder.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def window_of(model: SCD, value: float = 0.0) -> torch.Tensor:
    """Air but for a block of noise over the tokens 2-5, 1-3 and 0-2 of a grid of 8, 6 and 4."""
    image = torch.full((1, model.config.in_channels, *model.config.window), value)
    image[..., 9:22, 5:15, 0:12] = torch.randn(13, 10, 12) + 3 + value
    return image


def test_the_box_is_that_of_the_tokens_which_hold_anything() -> None:
    config = network().config
    box = content_box(window_of(network()), config)
    assert box == TokenBox((2, 1, 0), (6, 4, 3), (8, 6, 4), 4)
    assert box.size == (4, 3, 3)
    assert box.voxels == (slice(8, 24), slice(4, 16), slice(0, 12))
    expected = [h * 24 + w * 4 + d for h in range(2, 6) for w in range(1, 4) for d in range(3)]
    assert box.ids(torch.device("cpu")).tolist() == expected


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_emptiness_is_what_the_config_says(value: float) -> None:
    config = network(crop_value=value).config
    box = content_box(window_of(network(), value), config)
    assert box is not None and box.size == (4, 3, 3)
    assert content_box(window_of(network(), value + 0.5), config) is None  # nothing is empty
    assert content_box(window_of(network()), network(crop_value=None).config) is None


def test_nothing_but_emptiness_is_looked_at_whole() -> None:
    model = network()
    out = model(torch.zeros(1, 1, *model.config.window), 0.5)
    assert out.box is None and out.logits.shape == (1, 3, 32, 24, 16)


def test_windows_of_a_batch_share_the_box_of_what_any_holds() -> None:
    model = network()
    pair = torch.zeros(2, 1, *model.config.window)
    pair[0, 0, 0, 0, 0] = pair[1, 0, 10, 10, 10] = 1.0
    box = content_box(pair, model.config)
    assert box is not None and (box.first, box.end) == ((0, 0, 0), (3, 3, 3))


@pytest.mark.parametrize("keep_ratio", [1.0, 0.5, 0.2])
def test_logits_inside_are_those_of_a_window_that_is_the_box(keep_ratio: float) -> None:
    """The place of a token within the window is kept: its position row is that of its grid id."""
    model = network()
    image = window_of(model)
    with torch.inference_mode():
        out = model(image, keep_ratio)
    box = out.box
    assert box is not None
    small = network(window=(16, 12, 12), crop_value=None)
    ids = box.ids(torch.device("cpu"))
    weights = model.state_dict()
    table = weights["encoder.pos_embed"]
    weights["encoder.pos_embed"] = torch.cat([table[:, :1], table[:, 1 + ids]], dim=1)
    small.load_state_dict(weights)
    with torch.inference_mode():
        alone = small(box.cut(image), keep_ratio)
    assert torch.equal(out.inside, alone.logits)
    assert torch.equal(out.trace.kept[0], ids[alone.trace.kept[0]])
    for mine, other in zip(out.trace.pruned, alone.trace.pruned, strict=True):
        assert torch.equal(mine[0], ids[other[0]])


def test_outside_the_box_is_background() -> None:
    model = network()
    with torch.inference_mode():
        out = model(window_of(model), 0.5)
    logits = out.logits
    assert logits.shape == (1, 3, 32, 24, 16)
    assert out.box is not None
    assert torch.equal(out.box.cut(logits), out.inside)
    outside = torch.ones(32, 24, 16, dtype=torch.bool)
    outside[out.box.voxels] = False
    assert (logits[0, 0][outside] == OUTSIDE).all()
    assert (logits[0, 1:, outside] == -OUTSIDE).all()


def test_overlapping_regions_have_none_of_them_outside() -> None:
    classes = tuple(LabelClass(value=v, name=f"r{v}", color=(v, v, v)) for v in (1, 2, 3))
    info = ModelInfo(name="regions", channels=("a",), classes=classes, exclusive=False)
    model = network()
    model.info = info
    with torch.inference_mode():
        logits = model(window_of(model), 0.5).logits
    assert (logits[..., 0, 0, 0] == -OUTSIDE).all()


def test_the_trace_holds_the_boxes_tokens_alone() -> None:
    model = network()
    with torch.inference_mode():
        trace = model(window_of(model), 0.5).trace
    ids = torch.cat([*trace.pruned, trace.kept], dim=1).sort(dim=1).values
    expected = TokenBox((2, 1, 0), (6, 4, 3), (8, 6, 4), 4).ids(torch.device("cpu"))
    assert ids[0].tolist() == expected.tolist()
    assert [s.shape[1] for s in trace.scores] == [36, 18]


def test_scores_of_a_control_are_taken_by_grid_id() -> None:
    model = network()
    scores = torch.full((1, 8 * 6 * 4), -5.0)
    wanted = [2 * 24 + 1 * 4 + 0, 5 * 24 + 3 * 4 + 2]
    scores[0, wanted] = -1.0
    with torch.inference_mode():
        trace = model(window_of(model), 2 / 36, token_scores=scores).trace
    first = set(trace.pruned[0][0].tolist())
    assert not first & set(wanted)


def test_an_empty_window_around_costs_nothing() -> None:
    def macs(model: SCD, image: torch.Tensor) -> int:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(image, 1.0)
        return counter.get_total_flops()

    cropped, whole = network(), network(crop_value=None)
    image = window_of(cropped)
    assert macs(cropped, image) < 0.25 * macs(whole, image)  # 36 of 192 tokens
    assert macs(cropped, image) == macs(network(window=(16, 12, 12)), image[..., 8:24, 4:16, :12])


def test_gradients_flow_through_a_crop() -> None:
    model = network().train()
    image = window_of(model)
    model(image, 0.5).inside.square().mean().backward()
    row = model.encoder.pos_embed.grad
    assert row is not None
    touched = (row[0, 1:].abs().sum(dim=1) > 0).nonzero()[:, 0].tolist()
    inside = TokenBox((2, 1, 0), (6, 4, 3), (8, 6, 4), 4).ids(torch.device("cpu")).tolist()
    assert set(touched) <= set(inside) and len(touched) > 18
