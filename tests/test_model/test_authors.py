import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_tokensparse.model import authors
from napari_tokensparse.model.authors import import_checkpoint, read_authors
from napari_tokensparse.model.bundle import load_weights
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import ModelError, available_models
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

SPARSE = ("scd_p8_mlp", "scd_p8_prune90", "scd_p16_att", "mim_p8", "scd_p8_fusionv2_shared")
ALL = (*SPARSE, "dense_p8")
WEIGHTS = "best_model.pth.tar"
Reference = Callable[[str], Path]


def recordings(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "io.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def copy(reference: Reference, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference("scd_p8_mlp"), tmp_path / "copy"))


def change_weights(folder: Path, **changes: Any) -> None:
    saved = torch.load(folder / WEIGHTS, weights_only=True)
    torch.save({**saved, **changes}, folder / WEIGHTS)


def state_of(folder: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(folder / WEIGHTS, weights_only=True)["state_dict"])


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as refused:
        load_model(folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("name", ALL)
def test_logits_scores_and_decisions_are_those_of_the_authors_code(
    reference: Reference, name: str
) -> None:
    model, arrays = load_model(reference(name)), recordings(reference(name))
    assert not model.training
    with torch.inference_mode():
        out = model(torch.from_numpy(arrays["image"]))
    gap = out.logits.numpy()[..., ::4, ::4, ::4] - arrays["logits[::4]"]
    assert np.abs(gap).max() <= 1e-4
    assert len(out.trace.scores) == (3 if name in SPARSE else 0)
    for stage, scores in enumerate(out.trace.scores):
        assert np.array_equal(out.trace.pruned[stage].numpy(), arrays[f"pruned_{stage}"])
        assert np.abs(scores.numpy() - arrays[f"scores_{stage}"]).max(initial=0.0) <= 2e-5
    if name in SPARSE:
        assert np.array_equal(out.trace.kept.numpy(), arrays["kept"])


@pytest.mark.parametrize("name", SPARSE)
def test_gradients_in_training_are_those_of_the_authors_code(
    reference: Reference, name: str
) -> None:
    # In double precision: one activation of scd_p16_att lies so near the kink of its leaky ReLU
    # that float32's rounding decides its side, and with it the third digit of a gradient.
    model, arrays = load_model(reference(name)).double().train(), recordings(reference(name))
    loss = model(torch.from_numpy(arrays["image"]).double()).logits.square().mean()
    loss.backward()
    assert abs(loss.item() - arrays["train_loss"]) <= 1e-5
    own = dict(model.named_parameters())
    recorded = [key for key in arrays if key.startswith("grad/")]
    assert len(recorded) >= 14
    for key in recorded:
        parameter, thinned, _ = key.removeprefix("grad/").partition("[::2]")
        theirs, gradient = arrays[key], own[authors._renamed(parameter)].grad
        ours = np.zeros_like(theirs)
        if gradient is not None:
            ours = gradient.numpy()[..., ::2, ::2, ::2] if thinned else gradient.numpy()
        assert np.abs(ours - theirs).max() <= max(1e-4 * np.abs(theirs).max(), 1e-9), key


def test_the_predictors_get_their_gradient_from_the_masks(reference: Reference) -> None:
    key = "grad/encoder.score_predictor_list.0.out_mlp.0.weight"
    assert np.abs(recordings(reference("scd_p8_mlp"))[key]).max() > 1e-7


def test_a_checkpoint_says_which_network_it_is(reference: Reference) -> None:
    model = load_model(str(reference("scd_p8_prune90")))
    assert model.config.window == (48, 48, 48)
    assert model.config.keep_ratio == (1 - 0.9,) * 3
    assert (model.config.embed_dim, model.config.completion_dim) == (24, 24)
    assert model.info is not None
    assert model.info.name == "scd_p8_prune90"
    assert model.info.label_values == (0, 1, 2)


def test_names_from_parallel_training_are_accepted(reference: Reference, copy: Path) -> None:
    wrapped = {f"module.{name}": value for name, value in state_of(copy).items()}
    change_weights(copy, state_dict=wrapped)
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        same = load_model(copy)(image).logits
        assert torch.equal(same, load_model(reference("scd_p8_mlp"))(image).logits)


def test_the_rest_of_a_real_runs_checkpoint_is_no_obstacle(copy: Path) -> None:
    # The authors' training loop stores the metric as the numpy scalar that it is.
    change_weights(copy, epoch=5000, metric=np.float64(0.81))
    assert load_model(copy).config.out_channels == 3


def test_parameters_that_do_not_fit_are_all_listed_in_one_line(copy: Path) -> None:
    state = state_of(copy)
    del state["encoder.norm.bias"], state["decoder.out.conv.conv.bias"]
    state["encoder.cls_token"] = torch.zeros(1, 1, 25)
    state["optimizer.step"] = torch.zeros(1)
    change_weights(copy, state_dict=state)
    source, _, problems = refusal(copy).partition(": the weights do not fit the network – ")
    assert source.startswith(str(copy))
    assert problems == (
        "missing: decoder.out.conv.conv.bias, encoder.norm.bias; "
        "unknown: optimizer.step; "
        "of another shape: encoder.cls_token (1, 1, 25) instead of (1, 1, 24)"
    )


def test_weights_that_do_not_fit_leave_the_network_as_it_was() -> None:
    model = SCD(preset("nano"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = {name: torch.ones_like(value) for name, value in before.items()}
    del weights["encoder.norm.bias"]
    with pytest.raises(ModelError, match=r"^here: .* missing: encoder\.norm\.bias$"):
        load_weights(model, weights, "here")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_an_unreadable_checkpoint_is_named(copy: Path, content: bytes) -> None:
    (copy / WEIGHTS).write_bytes(content)
    line = refusal(copy)
    assert line.startswith(f"{copy / WEIGHTS}: not a checkpoint of the authors' code (")


def test_a_cut_off_checkpoint_is_named(copy: Path) -> None:
    content = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(content[: len(content) // 2])
    assert refusal(copy).startswith(f"{copy / WEIGHTS}: not a checkpoint of the authors' code (")


def test_a_missing_checkpoint_is_named(copy: Path) -> None:
    (copy / WEIGHTS).unlink()
    assert refusal(copy).startswith(f"{copy / WEIGHTS}: not a checkpoint of the authors' code (")


@pytest.mark.parametrize("saved", [[1, 2], torch.zeros(3), {"weights": {}}, {"state_dict": 3}])
def test_a_file_of_something_else_is_named(copy: Path, saved: Any) -> None:
    torch.save(saved, copy / WEIGHTS)
    assert refusal(copy).startswith(f"{copy / WEIGHTS}: not a checkpoint of the authors' code (")


class Shout:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("a checkpoint ran code",)


def test_a_checkpoint_that_would_run_code_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = io.BytesIO()
    torch.save({"state_dict": {}, "metric": Shout()}, buffer)
    (copy / WEIGHTS).write_bytes(buffer.getvalue())
    assert refusal(copy).startswith(f"{copy / WEIGHTS}: not a checkpoint of the authors' code (")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"completion_net": "FusionNetV3"}, "completion_net 'FusionNetV3': "),
        ({"score_predictor": "Random"}, "score_predictor 'Random': "),
        ({"dec_arch": "UNet"}, "dec_arch 'UNet': "),
        ({"tp_loc": "2-x"}, "invalid literal for int() with base 10: 'x'"),
        ({"tp_ratio": "half"}, ""),
        ({"tp_ratio": 1.0}, "keep ratio 0: must be in (0, 1]"),
        ({"roi_x": 33}, "window (33, 32, 32): every side must be a multiple"),
    ],
)
def test_a_config_that_cannot_be_used_is_named_with_the_reason(
    copy: Path, changes: dict[str, Any], reason: str
) -> None:
    path = copy / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    line = refusal(copy)
    assert line.startswith(f"{path}: cannot be used (")
    assert reason in line


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot be read ("),
        ("[]", "cannot be read (must hold names and values of arguments)"),
        ("{}", "says nothing of 'enc_arch'; give it with --set"),
        ("3", "cannot be read (must hold names and values of arguments)"),
    ],
)
def test_a_config_that_is_not_one_is_named(copy: Path, content: str, reason: str) -> None:
    (copy / "config.json").write_text(content)
    assert refusal(copy).startswith(f"{copy / 'config.json'}: {reason}")


YAML = """
proj_name: AdaSeg3D
run_name: ${proj_name}_${dataset}
enc_arch: VisionTransformerTokenPruningV1
dec_arch: UNETR_decoder
dataset: btcv
space_x: 1.5
space_y: 1.5
space_z: 2.0
a_min: -175.0
a_max: 250.0
b_min: 0.0
b_max: 1.0
roi_x: 96
roi_y: 32
roi_z: 32
infer_overlap: 0.5
score_predictor: MlpPredictor
share_pred: false
tp_loc: 2-5-8
tp_ratio: 0.75 #0.25
tp_tau: 1.
completion_net: FusionNet
compl_embed_dim: 24
compl_depth: 1
compl_num_heads: 4
perturbation: gumbel
patch_size: 16
in_chans: 1
feature_size: 2
encoder_embed_dim: 24
encoder_depth: 12
encoder_num_heads: 4
lr: 4.3e-3
resume:
"""
COMMAND_LINE = ["dec_arch=UNETRx8_decoderv2", "patch_size=8", "roi_x=32", "tp_ratio=0.9"]


@pytest.fixture
def btcv(tmp_path: Path) -> Path:
    """Write a run as the authors' code leaves it: a checkpoint of 14 classes, and the YAML."""
    (tmp_path / "config.yaml").write_text(YAML)
    torch.manual_seed(1)
    model = SCD(preset("nano", out_channels=14))
    theirs = {("module." + _theirs(k)): v for k, v in model.state_dict().items()}
    torch.save({"state_dict": theirs, "optimizer": {"lr": 0.1}}, tmp_path / "run.pth.tar")
    return tmp_path


def _theirs(name: str) -> str:
    """Turn our name of a parameter into the authors'."""
    for ours, other in (
        (r"^encoder\.patch_embed\.", "encoder.patch_embed.proj."),
        (r"^encoder\.stages\.(\d)\.predictor\.norm", r"encoder.score_predictor_list.\1.in_mlp.0"),
        (r"^encoder\.stages\.(\d)\.predictor\.embed", r"encoder.score_predictor_list.\1.in_mlp.1"),
        (r"^encoder\.stages\.(\d)\.predictor\.head", r"encoder.score_predictor_list.\1.out_mlp"),
        (r"^encoder\.stages\.(\d)\.pruned_norm", r"encoder.mid_norm_list.\1"),
        (r"^completion\.source_linears", "completion_net.pre_linear_list"),
        (r"^completion\.layer_tokens", "completion_net.completion.layer_tokens"),
        (r"^completion\.", "completion_net."),
        (r"^decoder\.skips\.(\d)", lambda m: f"decoder.encoder{int(m[1]) + 1}"),
        (r"^decoder\.ups\.(\d)", lambda m: f"decoder.decoder{int(m[1]) + 2}"),
    ):
        name = re.sub(ours, other, name)
    return name


def test_a_yaml_config_with_overrides_gives_a_model_folder_with_its_data_sets_recipe(
    btcv: Path,
) -> None:
    folder = import_checkpoint(
        btcv / "run.pth.tar", btcv / "config.yaml", btcv / "mine", COMMAND_LINE
    )
    model = load_model(folder)
    assert model.config.window == (32, 32, 32)
    assert model.config.keep_ratio == (1 - 0.9,) * 3
    assert model.config.out_channels == 14
    info = model.info
    assert info is not None
    assert info.name == "mine"
    assert [c.name for c in info.classes][:3] == ["spleen", "right kidney", "left kidney"]
    assert info.preprocessing[1]["pixdim"] == [1.5, 1.5, 2.0]
    assert info.blending == "constant"
    assert info.preprocessing[2]["a_min"] == -175.0
    assert info.preprocessing[2]["clip"] is True
    torch.manual_seed(1)
    same = SCD(preset("nano", out_channels=14)).eval()
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model(image, 0.5).logits, same(image, 0.5).logits)


def test_brats_is_read_as_overlapping_regions_painted_from_the_outside_in(
    reference: Reference, tmp_path: Path
) -> None:
    source = reference("scd_p16_att")
    model = read_authors(
        source / WEIGHTS, source / "config.json", ["dataset=msd_brats"], name="brats"
    )
    info = model.info
    assert info is not None
    assert not info.exclusive
    assert info.regions == ((2, 3), (1, 2, 3), (2,))
    painted = [info.classes[n].name for n in info.paint_order]
    assert painted == ["whole tumour", "tumour core", "enhancing tumour"]
    assert [t["_target_"] for t in info.preprocessing] == [
        "Orientationd",
        "Spacingd",
        "CropForegroundd",
        "NormalizeIntensityd",
    ]


@pytest.mark.parametrize("override", ["tp_ratio", "=3", ""])
def test_an_override_must_be_key_and_value(btcv: Path, override: str) -> None:
    with pytest.raises(ModelError, match=r"^--set '.*': must be KEY=VALUE$"):
        read_authors(btcv / "run.pth.tar", btcv / "config.yaml", [override])


def test_the_users_models_are_the_default_place(
    btcv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENSPARSE_MODELS", str(btcv / "models"))
    folder = import_checkpoint(btcv / "run.pth.tar", btcv / "config.yaml", None, COMMAND_LINE)
    assert folder == btcv / "models" / btcv.name
    assert available_models()[btcv.name] == folder


def test_a_source_that_is_nothing_is_refused_with_what_it_could_be(tmp_path: Path) -> None:
    line = refusal(tmp_path / "nowhere")
    assert line.startswith(f"model {str(tmp_path / 'nowhere')!r}: neither a known name (")
    assert line.endswith(
        "nor a model folder (configs/metadata.json) nor an authors' checkpoint folder (config.json)"
    )
