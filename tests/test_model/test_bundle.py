import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from nibabel.nifti1 import Nifti1Image
from safetensors.torch import load_file

from napari_tokensparse.model.bundle import monai_network, read_bundle, write_bundle
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import (
    CARD,
    INFERENCE,
    METADATA,
    WEIGHTS,
    ModelError,
    available_models,
    describe_folder,
)
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD

INFO = ModelInfo(
    name="two-parts",
    channels=("T1",),
    classes=(
        LabelClass(value=17, name="Left-Hippocampus", color=(220, 216, 20)),
        LabelClass(value=53, name="Right-Hippocampus", color=(220, 216, 21)),
    ),
    preprocessing=(
        {
            "_target_": "Orientationd",
            "keys": "image",
            "axcodes": "RAS",
            # Stated, because MONAI warns that its default changes.
            "labels": [["L", "R"], ["P", "A"], ["I", "S"]],
        },
        {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 1.5], "mode": "bilinear"},
        {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True},
    ),
    overlap=0.25,
)
ABOUT = {
    "version": "0.1.0",
    "task": "Hippocampi",
    "description": "For tests.",
    "authors": "us",
    "copyright": "us",
}


def network(info: ModelInfo = INFO) -> SCD:
    return SCD(preset("nano", out_channels=3 if info.exclusive else 2), info).eval()


def written(folder: Path, model: SCD, dtype: torch.dtype = torch.float32) -> Path:
    write_bundle(folder, model, ABOUT, "# Two parts\n", dtype)
    return folder


def logits(model: SCD, seed: int = 0) -> torch.Tensor:
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        out: torch.Tensor = model(image).logits
    return out


def change_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as refused:
        load_model(folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_model_comes_back_from_its_folder_bit_for_bit(tmp_path: Path) -> None:
    model = network()
    back = load_model(written(tmp_path / "two", model))
    assert not back.training
    assert back.config == model.config
    assert torch.equal(logits(back), logits(model))
    assert back.info is not None
    assert back.info.model_copy(update={"weights_sha256": ""}) == INFO
    assert len(back.info.weights_sha256) == 64
    assert sorted(str(p.relative_to(tmp_path / "two")) for p in tmp_path.rglob("*.*")) == sorted(
        map(str, (METADATA, INFERENCE, WEIGHTS, CARD))
    )


def test_half_precision_halves_the_file_and_rounds_the_weights(tmp_path: Path) -> None:
    model = network()
    full = written(tmp_path / "full", model)
    half = written(tmp_path / "half", model, torch.float16)
    ratio = (half / WEIGHTS).stat().st_size / (full / WEIGHTS).stat().st_size
    assert 0.45 < ratio < 0.6
    assert {v.dtype for v in load_file(half / WEIGHTS).values()} == {torch.float16}
    back = load_model(half)
    for name, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], value.half().float()), name
    # What a single rounding of the weights (2^-11) makes of the logits.
    change = (logits(back) - logits(model)).abs().max().item()
    assert 0 < change < 0.02 * logits(model).abs().max().item()


def test_the_metadata_has_the_fields_that_monai_asks_for(tmp_path: Path) -> None:
    folder = written(tmp_path / "two", network())
    metadata = json.loads((folder / METADATA).read_text("utf-8"))
    assert metadata["monai_version"] == monai.__version__
    assert metadata["numpy_version"] == np.__version__
    assert metadata["pytorch_version"] == torch.__version__.split("+")[0]
    assert {key: metadata[key] for key in ABOUT} == ABOUT
    image = metadata["network_data_format"]["inputs"]["image"]
    assert image["type"] == "image"
    assert image["num_channels"] == 1
    assert image["spatial_shape"] == [32, 32, 32]
    assert image["dtype"] == "float32"
    assert image["channel_def"] == {"0": "T1"}
    pred = metadata["network_data_format"]["outputs"]["pred"]
    assert pred["format"] == "segmentation"
    assert pred["num_channels"] == 3
    assert pred["channel_def"] == {
        "0": "background",
        "1": "Left-Hippocampus",
        "2": "Right-Hippocampus",
    }
    assert (folder / CARD).read_text("utf-8") == "# Two parts\n"


def test_regions_have_one_output_channel_each(tmp_path: Path) -> None:
    info = INFO.model_copy(update={"exclusive": False})
    folder = written(tmp_path / "two", network(info))
    pred = json.loads((folder / METADATA).read_text("utf-8"))["network_data_format"]["outputs"]
    assert pred["pred"]["channel_def"] == {"0": "Left-Hippocampus", "1": "Right-Hippocampus"}
    assert read_bundle(folder).info is not None
    assert read_bundle(folder).info.label_values == (17, 53)  # type: ignore[union-attr]


def test_blending_is_what_monais_inferer_is_told(tmp_path: Path) -> None:
    changes = {"exclusive": False, "blending": "constant", "regions": ((1, 2, 3), (2, 3))}
    info = INFO.model_copy(update=changes)
    folder = written(tmp_path / "two", network(info))
    assert json.loads((folder / INFERENCE).read_text("utf-8"))["inferer"]["mode"] == "constant"
    described = describe_folder(folder).info
    assert described.model_copy(update={"weights_sha256": ""}) == info
    change_json(folder / INFERENCE, lambda i: i["inferer"].update(mode="gaussian"))
    assert describe_folder(folder).info.blending == "gaussian"


def test_a_model_without_info_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="without its ModelInfo"):
        written(tmp_path / "two", SCD(preset("nano")))
    assert not (tmp_path / "two").exists()


@pytest.mark.filterwarnings("ignore:NvImgCodec:UserWarning")
@pytest.mark.parametrize("exclusive", [True, False])
def test_monais_own_tools_run_the_folder(tmp_path: Path, exclusive: bool) -> None:
    info = INFO.model_copy(update={"exclusive": exclusive})
    model = network(info)
    folder = written(tmp_path / "two", model)
    affine = np.diag([-1.4, 1.6, 1.5, 1.0])
    affine[:3, 3] = (20.0, -30.0, 5.0)
    array = np.random.default_rng(0).normal(100, 20, (36, 30, 33)).astype(np.float32)
    nib.save(Nifti1Image(array, affine), tmp_path / "scan.nii.gz")

    parser = ConfigParser()
    parser.read_config(folder / INFERENCE)
    parser.read_meta(folder / METADATA)
    parser["bundle_root"] = str(folder)
    parser["output_dir"] = str(tmp_path / "out")
    parser["images"] = [str(tmp_path / "scan.nii.gz")]
    parser["device"] = "$torch.device('cpu')"
    parser.get_parsed_content("run")

    (out,) = (tmp_path / "out").rglob("*.nii.gz")
    labels = nib.load(out)
    values = np.asarray(labels.dataobj)
    assert labels.shape == ((36, 30, 33) if exclusive else (36, 30, 33, 2))
    assert np.allclose(labels.affine, affine, atol=1e-5)
    assert values.dtype == np.uint16
    assert set(np.unique(values)) <= ({0, 17, 53} if exclusive else {0, 1})
    assert len(np.unique(values)) > 1


def test_monais_network_gives_the_logits_alone(tmp_path: Path) -> None:
    model = network()
    net = monai_network(str(written(tmp_path / "two", model)))
    assert not net.training
    image = torch.zeros(1, 1, 32, 32, 32)
    with torch.inference_mode():
        assert torch.equal(net(image), model(image).logits)


@pytest.mark.parametrize("part", [METADATA, INFERENCE, WEIGHTS])
def test_a_corrupted_file_is_named(tmp_path: Path, part: Path) -> None:
    folder = written(tmp_path / "two", network())
    (folder / part).write_bytes(b"\xff\xfe garbage")
    assert refusal(folder).startswith(f"{folder / part}: ")


@pytest.mark.parametrize("part", [INFERENCE, WEIGHTS])
def test_a_missing_file_is_named(tmp_path: Path, part: Path) -> None:
    folder = written(tmp_path / "two", network())
    (folder / part).unlink()
    assert refusal(folder).startswith(f"{folder / part}: cannot be read (")


@pytest.mark.parametrize("part", [METADATA, INFERENCE])
@pytest.mark.parametrize("content", ["[]", "{}", "null"])
def test_a_file_of_something_else_is_named(tmp_path: Path, part: Path, content: str) -> None:
    folder = written(tmp_path / "two", network())
    (folder / part).write_text(content)
    assert refusal(folder).startswith(f"{folder / part}: ")


def test_a_cut_off_weights_file_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "two", network())
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:-100])
    assert refusal(folder).startswith(f"{folder / WEIGHTS}: not a weights file (")


def test_a_pointer_in_the_place_of_weights_says_how_to_fetch_them(tmp_path: Path) -> None:
    folder = written(tmp_path, network())
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:1f\nsize 99\n"
    (folder / WEIGHTS).write_text(pointer)
    assert "model.safetensors only stands for the weights; fetch them with git lfs pull" in refusal(
        folder
    )


def test_weights_of_another_network_are_listed(tmp_path: Path) -> None:
    folder = written(tmp_path / "two", network())
    other = written(tmp_path / "other", SCD(preset("nano", out_channels=3, depth=11), INFO))
    shutil.copy(other / WEIGHTS, folder / WEIGHTS)
    line = refusal(folder)
    assert line.startswith(f"{folder}: the weights do not fit the network – missing: encoder.bl")
    assert "encoder.blocks.11.norm1.bias" in line
    assert "encoder.blocks.10.norm1.bias" not in line


def test_a_network_that_does_not_fit_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = written(tmp_path / "two", network())
    change_json(folder / METADATA, lambda m: m["napari_tokensparse"]["network"].update(num_heads=5))
    assert "embed_dim 24: must be a multiple of num_heads 5" in refusal(folder)


def test_models_are_found_by_name_in_the_folder_that_the_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network()
    written(tmp_path / "mine" / "two-parts", model)
    (tmp_path / "mine" / "notes").mkdir()
    (tmp_path / "mine" / "file.txt").write_text("no model")
    monkeypatch.setenv("TOKENSPARSE_MODELS", str(tmp_path / "mine"))
    assert available_models()["two-parts"] == tmp_path / "mine" / "two-parts"
    assert not {"notes", "file.txt"} & available_models().keys()
    assert torch.equal(logits(load_model("two-parts")), logits(model))

    monkeypatch.setenv("TOKENSPARSE_MODELS", str(tmp_path / "elsewhere"))
    assert "two-parts" not in available_models()
    with pytest.raises(ModelError, match=r"^model 'two-parts': neither a known name \("):
        load_model("two-parts")


def test_a_description_needs_no_network_and_changes_with_the_weights(tmp_path: Path) -> None:
    first = describe_folder(written(tmp_path / "one", network()))
    again = describe_folder(tmp_path / "one")
    second = describe_folder(written(tmp_path / "two", network()))
    assert first == again
    assert first.config == second.config
    assert first.info.weights_sha256 != second.info.weights_sha256
    unread = describe_folder(tmp_path / "one", hashed=False)
    assert unread.config == first.config
    assert unread.info == first.info.model_copy(update={"weights_sha256": ""})
