from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_tokensparse.model.bundle import load_weights, read_bundle, write_bundle
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.decoder import (
    BranchedDecoder,
    Decoder,
    GatedPyramidDecoder,
    LinearDecoder,
    ProgressiveDecoder,
    UnetrDecoder,
    make_decoder,
)
from napari_tokensparse.model.folder import WEIGHTS, ModelError
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

LAYOUTS: list[dict[str, Any]] = [
    {"decoder": "unetr-x8-v2", "window": (32, 48, 32)},
    {"decoder": "unetr-x8", "window": (24, 40, 16)},
    {"decoder": "unetr", "patch_size": 16, "window": (32, 48, 16)},
]


@pytest.mark.parametrize("changes", LAYOUTS, ids=lambda changes: str(changes["decoder"]))
def test_every_layout_gives_logits_of_the_windows_shape(changes: dict[str, Any]) -> None:
    model = SCD(preset("nano", in_channels=2, out_channels=3, **changes)).eval()
    with torch.inference_mode():
        logits = model(torch.randn(2, 2, *changes["window"])).logits
    assert logits.shape == (2, 3, *changes["window"])
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    ("changes", "skips", "ups"),
    [
        (LAYOUTS[0], [2, 4, 8, 16], [(4, 2), (8, 4), (16, 8), (24, 16)]),
        (LAYOUTS[1], [2, 4, 8], [(4, 2), (8, 4), (24, 8)]),
        (LAYOUTS[2], [2, 4, 8, 16], [(4, 2), (8, 4), (16, 8), (24, 16)]),
    ],
)
def test_widths_double_from_level_to_level(
    changes: dict[str, Any], skips: list[int], ups: list[tuple[int, int]]
) -> None:
    config = preset("nano", **changes)
    decoder = UnetrDecoder(config)
    token_map = torch.zeros(1, 24, *config.grid)
    image = torch.zeros(1, 1, *config.window)
    with torch.inference_mode():
        widths = [s(token_map if n else image).shape[1] for n, s in enumerate(decoder.skips)]
    assert widths == skips
    transposed = [up.transp_conv.conv for up in decoder.ups]
    assert [(c.in_channels, c.out_channels) for c in transposed] == ups


@pytest.mark.parametrize("changes", LAYOUTS, ids=lambda changes: str(changes["decoder"]))
def test_both_the_image_and_the_map_reach_the_logits(changes: dict[str, Any]) -> None:
    config = preset("nano", **changes)
    decoder = UnetrDecoder(config).eval()
    token_map, image = torch.randn(1, 24, *config.grid), torch.randn(1, 1, *config.window)
    with torch.inference_mode():
        logits = decoder(token_map, image)
        assert (decoder(token_map + torch.randn_like(token_map), image) - logits).abs().max() > 1e-3
        assert (decoder(token_map, image + torch.randn_like(image)) - logits).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "keep_ratio", "giga_macs"),
    [("btcv", None, 131.8), ("btcv", 0.25, 140.9), ("btcv", 0.5, 165.3), ("brats", None, 403.8)],
)
def test_the_papers_presets_cost_what_was_counted_for_them(
    name: str, keep_ratio: float | None, giga_macs: float
) -> None:
    config = preset(name)
    with torch.device("meta"):
        model = SCD(config).eval()
    model.to_empty(device="cpu")
    # Shapes only, no arithmetic.
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):
        image = torch.empty(1, config.in_channels, *config.window)
        with FlopCounterMode(display=False) as counter:
            logits = model(image, keep_ratio).logits
    assert logits.shape == (1, config.out_channels, *config.window)
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga_macs, abs=0.05)


def test_the_papers_presets_can_be_built_without_memory() -> None:
    with torch.device("meta"):
        model = SCD(preset("btcv"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 106_247_601


def test_the_linear_head_writes_every_tokens_logits_into_its_own_patch() -> None:
    config = preset("nano", decoder="linear", patch_size=2, window=(2, 4, 6), out_channels=3)
    decoder = LinearDecoder(config).requires_grad_(False)
    token_map = torch.randn(2, 24, 1, 2, 3)
    logits = decoder(token_map, torch.zeros(2, 1, 2, 4, 6))
    assert logits.shape == (2, 3, 2, 4, 6)
    for row in range(2):
        for h, w, d in ((0, 0, 0), (0, 1, 0), (0, 0, 2), (0, 1, 2)):
            own = decoder.linear(token_map[row, :, h, w, d]).reshape(3, 2, 2, 2)
            patch = logits[row, :, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2, 2 * d : 2 * d + 2]
            assert torch.allclose(patch, own, atol=1e-6)


@pytest.mark.parametrize("patch", [1, 2, 4, 8, 16])
def test_progressive_upsampling_doubles_the_map_up_to_the_patch(patch: int) -> None:
    window = (patch, 2 * patch, patch)
    config = preset("nano", decoder="pup", patch_size=patch, window=window, feature_size=4)
    decoder = ProgressiveDecoder(config)
    logits = decoder(torch.randn(2, 24, 1, 2, 1), torch.zeros(2, 1, *window))
    assert logits.shape == (2, 2, *window)
    assert torch.isfinite(logits).all()
    widths = [m.out_channels for m in decoder.steps if isinstance(m, nn.Conv3d)]
    assert widths == [32, 16, 8, 4][: len(widths)]
    assert 2 ** len(widths) == patch


@pytest.mark.parametrize(
    ("name", "kind"),
    [("linear", LinearDecoder), ("pup", ProgressiveDecoder), ("unetr-x8-v2", UnetrDecoder)],
)
def test_a_config_names_its_decoder_and_each_fits_the_protocol(name: str, kind: type) -> None:
    config = preset("nano", decoder=name)
    decoder = make_decoder(config)
    assert type(decoder) is kind
    assert isinstance(decoder, Decoder)
    model = SCD(config).train()
    logits = model(torch.randn(2, 1, 32, 32, 32)).logits
    assert logits.shape == (2, 2, 32, 32, 32)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


class Upsampling(nn.Module):
    """Somebody's own decoder; an odd length, so that it must not be asked whether it is true."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv3d(24, 2, 1)
        self.seen: list[tuple[int, ...]] = []

    def __len__(self) -> int:
        return 0

    def forward(self, token_map: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        self.seen = [tuple(token_map.shape), tuple(image.shape)]
        return nn.functional.interpolate(self.head(token_map), image.shape[2:]) + image


def custom() -> SCD:
    info = ModelInfo(
        name="mine",
        channels=("T1",),
        classes=(LabelClass(value=1, name="one", color=(255, 0, 0)),),
    )
    return SCD(preset("nano", decoder="custom", window=(32, 40, 24)), info, Upsampling()).eval()


def test_a_decoder_of_ones_own_gets_the_map_and_the_image_and_gives_the_logits() -> None:
    model, image = custom(), torch.randn(2, 1, 32, 40, 24)
    assert isinstance(model.decoder, Decoder)
    with torch.inference_mode():
        logits = model(image, 0.5).logits
    assert model.decoder.seen == [(2, 24, 4, 5, 3), (2, 1, 32, 40, 24)]
    assert logits.shape == (2, 2, 32, 40, 24)
    change = logits - logits.mean(dim=1, keepdim=True)
    assert change.abs().max() > 1e-3
    model.train()(image).logits.square().mean().backward()
    assert model.encoder.patch_embed.weight.grad.abs().max() > 0


def test_a_decoder_of_ones_own_need_not_tell_the_image_apart() -> None:
    model, image = custom(), torch.randn(1, 1, 32, 40, 24)
    assert not isinstance(model.decoder, BranchedDecoder)
    with torch.inference_mode():
        begun = model.begin(image)
        assert begun.image_skip is None
        assert torch.equal(model.finish(begun, 0.5).logits, model(image, 0.5).logits)


def test_the_image_branch_can_be_given_to_a_decoder() -> None:
    config = preset("nano", in_channels=2)
    decoder = UnetrDecoder(config).eval()
    assert isinstance(decoder, BranchedDecoder)
    token_map, image = torch.randn(1, 24, 4, 4, 4), torch.randn(1, 2, 32, 32, 32)
    with torch.inference_mode():
        skip = decoder.image_branch(image)
        assert skip.shape == (1, 2, 32, 32, 32)
        given = decoder(token_map, torch.zeros_like(image), image_skip=skip)
        assert torch.equal(given, decoder(token_map, image))


def test_whose_decoder_it_is_must_be_agreed() -> None:
    with pytest.raises(ValueError, match=r"^decoder 'custom': give SCD the decoder itself$"):
        SCD(preset("nano", decoder="custom"))
    with pytest.raises(ValueError) as refused:
        SCD(preset("nano"), None, Upsampling())
    assert str(refused.value) == "decoder 'unetr-x8-v2': must be 'custom' to use one's own"


def test_a_folder_with_a_custom_decoder_says_how_to_load_it(tmp_path: Path) -> None:
    model, folder = custom(), tmp_path / "mine"
    write_bundle(folder, model, {"version": "1"}, "card")
    for read in (read_bundle, load_model):
        with pytest.raises(ModelError) as refused:
            read(folder)
        assert str(refused.value) == (
            f"{folder}: its decoder is the user's own, which no folder holds; build "
            "SCD(config, info, decoder) and fill it with load_weights"
        )
    again = SCD(model.config, model.info, Upsampling()).eval()
    load_weights(again, load_file(folder / WEIGHTS), str(folder))
    image = torch.randn(1, 1, 32, 40, 24)
    with torch.inference_mode():
        assert torch.equal(again(image).logits, model(image).logits)


def gated(patch_size: int = 4, **changes: Any) -> tuple[GatedPyramidDecoder, torch.Tensor, Any]:
    """Make a gated pyramid with a token map and an image of its window."""
    config = preset(
        "nano",
        out_channels=3,
        window=(4 * patch_size, 6 * patch_size, 4 * patch_size),
        patch_size=patch_size,
        decoder="gated-pyramid",
        **changes,
    )
    decoder = GatedPyramidDecoder(config).eval()
    return decoder, torch.randn(1, 24, *config.grid), torch.randn(1, 1, *config.window)


@pytest.mark.parametrize("patch_size", [2, 4, 8])
def test_a_gated_pyramid_gives_logits_of_the_windows_shape(patch_size: int) -> None:
    decoder, token_map, image = gated(patch_size)
    with torch.inference_mode():
        logits = decoder(token_map, image, gate=torch.ones(1, 1, 4, 6, 4))
        assert logits.shape == (1, 3, *image.shape[2:])
        assert torch.equal(logits, decoder(token_map, image))
        skips = decoder.image_branch(image)
    assert [s.shape[1] for s in skips] == [2 * 2**n for n in range(patch_size.bit_length() - 1)]


def test_where_the_gate_is_shut_the_image_is_seen_by_one_convolution_alone() -> None:
    """Change one voxel: with the gate shut its neighbours' finest skip is all that it changes."""
    decoder, token_map, image = gated()
    other = image.clone()
    other[0, 0, 8, 12, 8] += 5.0
    with torch.inference_mode():
        ours, theirs = decoder.image_branch(image), decoder.image_branch(other)
        shut = torch.zeros(1, 1, 4, 6, 4)
        # The same finest skip: nothing of the coarser ones passes a shut gate.
        mixed = [theirs[0], ours[1]]
        assert torch.equal(
            decoder(token_map, image, theirs, shut), decoder(token_map, image, mixed, shut)
        )
        ajar = shut.clone()
        ajar[0, 0, 2, 3, 2] = 1.0  # the voxel's own token
        changed = decoder(token_map, image, theirs, ajar) != decoder(token_map, image, mixed, ajar)
    assert changed.any()


def test_the_gate_is_where_the_first_stage_kept_a_token() -> None:
    changes = {"window": (16, 24, 16), "patch_size": 4, "decoder": "gated-pyramid"}
    model = SCD(preset("nano", prune_after=(-1, 3), keep_ratio=(0.5, 0.5), **changes)).eval()
    taken: list[torch.Tensor] = []
    model.decoder.register_forward_pre_hook(
        lambda _, args, kwargs: taken.append(kwargs["gate"]), with_kwargs=True
    )
    with torch.inference_mode():
        trace = model(torch.randn(1, 1, 16, 24, 16), 0.25).trace
    gate = taken[0].flatten()
    assert set(gate.tolist()) == {0.0, 1.0}
    assert gate.nonzero()[:, 0].tolist() == sorted(
        [*trace.pruned[1][0].tolist(), *trace.kept[0].tolist()]
    )


def test_the_score_predictor_learns_through_the_gate() -> None:
    changes = {"window": (16, 24, 16), "patch_size": 4, "decoder": "gated-pyramid"}
    model = SCD(
        preset(
            "nano",
            prune_after=(-1,),
            keep_ratio=(0.5,),
            forgotten_stages=1,
            perturbation="none",
            **changes,
        )
    ).train()
    # Only the gate is left for the scores to act by.
    model.decoder.register_forward_pre_hook(
        lambda _, args, kwargs: ((args[0].detach(), *args[1:]), kwargs), with_kwargs=True
    )
    model(torch.randn(1, 1, 16, 24, 16), 0.5).logits.square().mean().backward()
    gradient = model.encoder.stages[0].predictor.head[0].weight.grad
    assert gradient is not None and gradient.abs().max() > 0
