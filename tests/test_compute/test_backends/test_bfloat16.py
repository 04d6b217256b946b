"""bfloat16 on a CPU: what it gives, whatever the processor, and when it is chosen."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_tokensparse.compute.backends import bfloat16, choice, trial
from napari_tokensparse.compute.backends.base import Backend, BackendError
from napari_tokensparse.compute.backends.bfloat16 import bfloat16_backend
from napari_tokensparse.compute.backends.choice import make_backend
from napari_tokensparse.compute.backends.trial import Trial, compared, sample_window, trial_of
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD, SCDOutput
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.samples import sample_path

MakeModel = Callable[..., SCD]
NETWORKS: dict[str, dict[str, Any]] = {
    "unetr": {"decoder": "unetr", "patch_size": 16},
    "unetr-x8": {"decoder": "unetr-x8"},
    "unetr-x8-v2": {"decoder": "unetr-x8-v2"},
    "linear": {"decoder": "linear"},
    "pup": {"decoder": "pup"},
    "dense": {"prune_after": (), "keep_ratio": (), "completion": "none"},
    "mask-token": {"completion": "mask-token"},
    "mta-no-linear": {"completion": "mta-no-linear"},
    "mta-mlp": {"completion": "mta-mlp"},
    "attention": {"predictor": "attention", "share_predictor": True},
    "conv-stem": {"embedding": "conv-stem"},
}


def windows(model: SCD, batch: int = 1) -> Tensor:
    return torch.randn(batch, model.config.in_channels, *model.config.window)


def off(output: SCDOutput, wanted: SCDOutput) -> float:
    """Return how far logits lie from those that are wanted, as a share of their size."""
    apart, size = (x.square().mean().sqrt() for x in (output.logits - wanted.logits, wanted.logits))
    return float(apart / size)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gives_what_float32_gives_within_the_digits(name: str) -> None:
    model = SCD(preset("nano", **NETWORKS[name])).eval()
    image, backend = windows(model, 2), bfloat16_backend(model)
    out, wanted = backend(image, 1.0), Backend("plain", model)(image, 1.0)
    assert (backend.name, out.logits.dtype) == ("bfloat16", torch.float32)
    assert 1e-4 < off(out, wanted) < 0.02
    assert {s.dtype for s in out.trace.scores} <= {torch.float32}


def test_scores_are_near_enough_that_the_same_tokens_are_pruned_but_for_near_ties(
    make_model: MakeModel, make_cropping: MakeModel
) -> None:
    for model in (make_model(), make_cropping(), make_cropping(decoder="coarse-to-fine")):
        image = windows(model)
        out, wanted = bfloat16_backend(model)(image, 0.5), Backend("plain", model)(image, 0.5)
        ours, theirs = out.trace.scores[0], wanted.trace.scores[0]
        spread = float(theirs.std())
        assert 0 < float((ours - theirs).abs().max()) < 0.1 * spread
        bar = float(theirs[0].median())  # between what is kept and what is pruned
        ours_gone, gone = (set(o.trace.pruned[0][0].tolist()) for o in (out, wanted))
        for token in ours_gone ^ gone:
            assert abs(float(theirs[0, token]) - bar) < 0.1 * spread


def test_the_bundled_model_labels_its_sample_as_float32_does() -> None:
    model = load_model("brain-structures")
    image = sample_window(model)
    half, exact = bfloat16_backend(model), Backend("plain", model)
    out, wanted = half(image), exact(image)
    same = out.inside.argmax(dim=1) == wanted.inside.argmax(dim=1)
    assert float(same.float().mean()) >= 0.998
    for ours, theirs in zip(out.trace.pruned, wanted.trace.pruned, strict=True):
        alike = len(set(ours[0].tolist()) & set(theirs[0].tolist()))
        assert alike >= 0.98 * theirs.shape[1]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("attention", [0.5, 2.0])
def test_it_is_right_with_and_without_instructions_and_in_either_attention(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, packed: bool, attention: float
) -> None:
    monkeypatch.setattr(bfloat16, "attention_gain", lambda: attention)
    if not packed:
        monkeypatch.setattr(bfloat16, "has_bfloat16", lambda: False)
    model = make_model()
    image, backend = windows(model), bfloat16_backend(model)
    qkv: Any = backend.network.encoder.blocks[0].attn.qkv
    assert qkv(torch.ones(1, 2, model.config.embed_dim)).dtype == (
        torch.bfloat16 if attention > 1 else torch.float32
    )
    assert packed >= qkv._packed
    assert 1e-4 < off(backend(image, 1.0), Backend("plain", model)(image, 1.0)) < 0.02


def test_a_decoder_of_the_users_own_stays_float32_and_is_given_float32() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv3d(preset("nano").embed_dim, 2, 1)
            self.given: set[torch.dtype] = set()

        def forward(self, token_map: Tensor, image: Tensor) -> Tensor:
            self.given |= {token_map.dtype, image.dtype, self.layer.weight.dtype}
            up = nn.functional.interpolate(self.layer(token_map), size=image.shape[2:])
            return up * image

    own = Own()
    model = SCD(preset("nano", decoder="custom"), decoder=own).eval()
    out = bfloat16_backend(model)(windows(model))
    assert own.given == {torch.float32}
    assert out.logits.dtype == torch.float32


def test_weights_are_converted_once_and_anew_when_they_change(make_model: MakeModel) -> None:
    model = make_model()
    parts, image = list(model.modules()), windows(model)
    before = bfloat16_backend(model)
    assert bfloat16_backend(model).network is before.network
    logits = before(image).logits
    with torch.no_grad():
        model.decoder.out.conv.conv.bias.add_(1.0)
    after = bfloat16_backend(model)
    assert after.network is not before.network
    assert all(a is b for a, b in zip(parts, model.modules(), strict=True))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    torch.testing.assert_close(after(image).logits, logits + 1.0, rtol=0, atol=0.01)


def test_a_trial_takes_turns_and_compares_labels(make_model: MakeModel) -> None:
    model, now, order = make_model(), [0.0], []

    class Slow(Backend):
        def __call__(self, image: Tensor, *_: Any, **__: Any) -> SCDOutput:
            order.append(self.name)
            now[0] += {"one": 3.0, "other": 1.5}[self.name]
            out = super().__call__(image)
            if self.name == "other":
                out.inside[..., 0].fill_(0.0)  # where one class won, the first does
            return out

    image = windows(model)
    one, other = Slow("one", model), Slow("other", model)
    with torch.inference_mode():
        result = compared(one, other, image, lambda: now[0])
    assert order == ["one", "other"] * 4
    assert result.gain == pytest.approx(2.0)
    labels = model(image).inside.argmax(dim=1)
    expected = 1 - float((labels[..., 0] != 0).float().mean()) / labels.shape[-1]
    assert result.agreement == pytest.approx(expected)


def test_a_trial_is_kept_until_the_weights_or_the_backends_change(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path))
    results = [Trial(gain=float(n), agreement=1.0) for n in range(1, 5)]
    monkeypatch.setattr(trial, "compared", lambda *_: results.pop(0))
    model = make_model()
    one, other = Backend("plain", model), Backend("bfloat16", model)
    assert [trial_of(model, one, other).gain for _ in range(2)] == [1.0, 1.0]
    assert trial_of(model, replace(one, name="openvino"), other).gain == 2.0
    with torch.no_grad():
        model.encoder.norm.weight.mul_(2.0)
    assert trial_of(model, one, other).gain == 3.0
    (file, *_) = sorted((tmp_path / "trials").iterdir())
    for each in (tmp_path / "trials").iterdir():
        each.write_text("half of")
    assert trial_of(model, one, other).gain == 4.0
    assert file.is_file()


def test_the_sample_stands_in_for_scans_of_any_channels_and_noise_where_it_cannot(
    make_model: MakeModel,
) -> None:
    model = make_model()
    window = sample_window(model)
    assert window.shape == (1, 1, *model.config.window)
    assert float((window != model.info.background).float().mean()) > 0.9
    bare = SCD(preset("nano", in_channels=2)).eval()
    assert sample_window(bare).shape == (1, 2, *bare.config.window)
    assert torch.equal(sample_window(bare), sample_window(bare))


@pytest.mark.parametrize(
    ("gain", "result", "name", "note"),
    [
        (0.5, None, "plain", None),
        (2.0, Trial(gain=1.1, agreement=1.0), "plain", None),
        (2.0, Trial(gain=1.9, agreement=0.9991), "bfloat16", "99.91 %.*: running in bfloat16"),
        (2.0, Trial(gain=1.9, agreement=0.9989), "plain", "less than 99.9 %: running in float32"),
    ],
)
def test_auto_takes_it_only_where_a_trial_says_that_it_is_faster_and_right(
    make_model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
    gain: float,
    result: Trial | None,
    name: str,
    note: str | None,
) -> None:
    asked = []

    def trial_of(*given: Any) -> Trial:
        asked.append(given)
        assert result is not None
        return result

    monkeypatch.setattr(choice, "bfloat16_gain", lambda: gain)
    monkeypatch.setattr(choice, "trial_of", trial_of)
    model = make_model()
    backend = make_backend(model)
    assert (backend.name, len(asked)) == (name, result is not None)
    assert len(backend.notes) == (note is not None)
    if note is not None:
        assert backend.notes[0].startswith("bfloat16 is 1.9 times as fast here as float32")
        assert re.search(note, backend.notes[0])
    assert make_backend(model, "auto", "float32").name == "plain"
    assert make_backend(model, "auto", "bfloat16").name == "bfloat16"
    assert len(asked) == (result is not None)


def test_a_run_says_that_it_was_in_bfloat16(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "bfloat16_gain", lambda: 2.0)
    monkeypatch.setattr(choice, "trial_of", lambda *_: Trial(gain=2.0, agreement=1.0))
    volume, model = read_volume(sample_path()), make_model()
    box = (slice(80, 100),) * 3
    small = replace(volume, array=volume.array[(slice(None), *box)])
    stats = segment(small, model).stats
    assert stats.backend == "bfloat16"
    assert any("running in bfloat16" in note for note in stats.notes)
    exact = segment(small, model, precision="float32").stats
    assert exact.backend == "plain"
    assert not any("bfloat16" in note for note in exact.notes)


def test_what_cannot_be_is_refused_in_one_line() -> None:
    with torch.device("meta"):
        model = SCD(preset("nano"))
    with pytest.raises(BackendError, match=r"^backend 'bfloat16': runs on a CPU, not on device 'm"):
        make_backend(model, "bfloat16")
    with pytest.raises(BackendError, match=r"^precision 'half': choose one of auto, float32, bfl"):
        make_backend(model, "auto", "half")
    with pytest.raises(BackendError, match=r"^precision 'bfloat16': backend 'plain' computes in f"):
        make_backend(model, "plain", "bfloat16")
    with pytest.raises(BackendError, match=r"^precision 'float32': backend 'bfloat16' computes in"):
        make_backend(model, "bfloat16", "float32")
