from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from napari_tokensparse.model.bundle import load_weights, read_bundle, write_bundle
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.decoders.making import make_decoder
from napari_tokensparse.model.decoders.plain import LinearDecoder, ProgressiveDecoder
from napari_tokensparse.model.decoders.protocols import BranchedDecoder, Decoder
from napari_tokensparse.model.decoders.unetr import UnetrDecoder
from napari_tokensparse.model.folder import WEIGHTS, ModelError
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD


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
