import pytest
import torch

from napari_tokensparse.model.layers.blocks import make_embedding
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD


@pytest.mark.parametrize("patch", [2, 4, 8, 16])
def test_a_stem_gives_a_token_for_every_patch(patch: int) -> None:
    config = preset(
        "nano",
        in_channels=2,
        patch_size=patch,
        embedding="conv-stem",
        window=(2 * patch, 4 * patch, 2 * patch),
        decoder="linear",
    )
    stem = make_embedding(config)
    assert stem(torch.randn(3, 2, *config.window)).shape == (3, 24, 2, 4, 2)


def test_a_token_of_a_stem_sees_little_of_far_patches() -> None:
    stem = make_embedding(preset("nano", embedding="conv-stem"))
    for norm in [m for m in stem.modules() if isinstance(m, torch.nn.InstanceNorm3d)]:
        norm.forward = lambda x: x  # statistics of the window apart
    image = torch.randn(1, 1, 32, 32, 32)
    other = image.clone()
    other[..., :8, :8, :8] += 1
    changed = (stem(other) != stem(image)).any(dim=1)[0]
    assert changed[:2, :2, :2].all()
    assert not changed[3:].any()
    assert not changed[:, 3:].any()
    assert not changed[:, :, 3:].any()


def test_a_stem_does_not_care_about_brightness_and_contrast() -> None:
    stem = make_embedding(preset("nano", embedding="conv-stem"))
    image = torch.randn(1, 1, 32, 32, 32)
    torch.testing.assert_close(stem(3 * image), stem(image), rtol=1e-3, atol=1e-3)


def test_a_network_with_a_stem_learns_through_it() -> None:
    model = SCD(preset("nano", embedding="conv-stem")).train()
    model(torch.randn(1, 1, 32, 32, 32), 0.5).logits.square().mean().backward()
    grads = [p.grad for p in model.encoder.patch_embed.parameters()]
    assert all(g is not None and g.abs().max() > 0 for g in grads)


def test_a_patch_must_be_halvable_for_a_stem() -> None:
    with pytest.raises(ValueError, match="patch_size 6: embedding 'conv-stem' halves the image"):
        preset("nano", embedding="conv-stem", patch_size=6, window=(24, 24, 24), decoder="linear")
