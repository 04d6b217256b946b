import pytest
import torch
from torch import nn

from napari_tokensparse.model.decoders.plain import LinearDecoder, ProgressiveDecoder
from napari_tokensparse.model.presets import preset


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
