import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_tokensparse.model import checkpoints
from napari_tokensparse.model.bundle import load_weights
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import ModelError
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

REFERENCE = Path(__file__).parents[1] / "data" / "reference"
NAMES = ("scd_p8_mlp", "scd_p8_prune90")
WEIGHTS = "best_model.pth.tar"


@pytest.fixture(params=NAMES)
def recorded(request: pytest.FixtureRequest) -> tuple[SCD, dict[str, np.ndarray]]:
    folder = REFERENCE / request.param
    with np.load(folder / "io.npz") as arrays:
        return load_model(folder), dict(arrays)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(REFERENCE / "scd_p8_mlp", tmp_path / "copy"))


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


def test_logits_scores_and_decisions_are_those_of_the_authors_code(
    recorded: tuple[SCD, dict[str, np.ndarray]],
) -> None:
    model, arrays = recorded
    assert not model.training
    with torch.inference_mode():
        out = model(torch.from_numpy(arrays["image"]))
    assert np.abs(out.logits.numpy() - arrays["logits"]).max() <= 1e-4
    for stage in range(3):
        assert np.array_equal(out.trace.pruned[stage].numpy(), arrays[f"pruned_{stage}"])
        gap = out.trace.scores[stage].numpy() - arrays[f"scores_{stage}"]
        assert np.abs(gap).max(initial=0.0) <= 1e-5
    assert np.array_equal(out.trace.kept.numpy(), arrays["kept"])


def test_gradients_in_training_are_those_of_the_authors_code(
    recorded: tuple[SCD, dict[str, np.ndarray]],
) -> None:
    model, arrays = recorded
    model.train()
    loss = model(torch.from_numpy(arrays["image"])).logits.square().mean()
    loss.backward()
    assert abs(loss.item() - arrays["train_loss"]) <= 1e-5
    own = dict(model.named_parameters())
    recorded_gradients = [key for key in arrays if key.startswith("grad/")]
    assert len(recorded_gradients) == 35
    for key in recorded_gradients:
        theirs = arrays[key]
        gradient = own[checkpoints._renamed(key.removeprefix("grad/"))].grad
        ours = np.zeros_like(theirs) if gradient is None else gradient.numpy()
        error = np.abs(ours - theirs).max()
        assert error <= max(1e-4 * np.abs(theirs).max(), 1e-9), key


def test_the_predictors_get_their_gradient_from_the_masks() -> None:
    with np.load(REFERENCE / "scd_p8_mlp" / "io.npz") as arrays:
        key = "grad/encoder.score_predictor_list.0.out_mlp.0.weight"
        assert np.abs(arrays[key]).max() > 1e-7


def test_a_checkpoint_says_which_network_it_is() -> None:
    model = load_model(str(REFERENCE / "scd_p8_prune90"))
    assert model.config.window == (48, 48, 48)
    assert model.config.keep_ratio == (1 - 0.9,) * 3
    assert (model.config.embed_dim, model.config.completion_dim) == (24, 24)
    assert model.info is not None
    assert model.info.name == "scd_p8_prune90"
    assert model.info.label_values == (0, 1, 2)


def test_names_from_parallel_training_are_accepted(copy: Path) -> None:
    wrapped = {f"module.{name}": value for name, value in state_of(copy).items()}
    change_weights(copy, state_dict=wrapped)
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        same = load_model(copy)(image).logits
        assert torch.equal(same, load_model(REFERENCE / "scd_p8_mlp")(image).logits)


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
    assert refusal(copy) == (
        f"{copy}: the weights do not fit the network – "
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
        ({"completion_net": "FusionNetV3"}, "completion_net 'FusionNetV3': only 'FusionNet'"),
        ({"score_predictor": "Random"}, "score_predictor 'Random': only 'MlpPredictor'"),
        ({"dec_arch": "UNet"}, "dec_arch 'UNet': one of UNETR_decoder, UNETRx8_decoder"),
        ({"tp_loc": "2-x"}, "invalid literal for int() with base 10: 'x'"),
        ({"tp_ratio": "half"}, "unsupported operand"),
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


@pytest.mark.parametrize("content", ["{", "[]", "{}", "3"])
def test_a_config_that_is_not_one_is_named(copy: Path, content: str) -> None:
    (copy / "config.json").write_text(content)
    assert refusal(copy).startswith(f"{copy / 'config.json'}: cannot be used (")


def test_a_source_that_is_nothing_is_refused_with_what_it_could_be(tmp_path: Path) -> None:
    line = refusal(tmp_path / "nowhere")
    assert line.startswith(f"model {str(tmp_path / 'nowhere')!r}: neither a known name (")
    assert line.endswith(
        "nor a model folder (configs/metadata.json) nor an authors' checkpoint folder (config.json)"
    )
