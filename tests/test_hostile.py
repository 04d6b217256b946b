"""Checkpoints, model folders and configs of a stranger who means harm: refused, without a trace."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import runpy
import shutil
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monai
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from napari_tokensparse.model.authors import import_checkpoint
from napari_tokensparse.model.bundle import write_bundle
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import (
    INFERENCE,
    METADATA,
    OUR_KEY,
    WEIGHTS,
    ModelError,
    describe_folder,
)
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.pickled import PickledError, read_pickled
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.training import state
from napari_tokensparse.training.runconfig import RunConfig
from napari_tokensparse.volumes.definitions import ALLOWED, DefinitionError, check_definition
from napari_tokensparse.volumes.preprocess import PreprocessError, preprocess
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable

CONFTEST = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
ARGUMENTS = {
    **{"enc_arch": "VisionTransformerTokenPruningV1", "dec_arch": "UNETRx8_decoderv2"},
    **{"roi_x": 32, "roi_y": 32, "roi_z": 32, "patch_size": 8, "in_chans": 1, "feature_size": 2},
    **{"encoder_embed_dim": 24, "encoder_depth": 12, "encoder_num_heads": 4, "num_classes": 2},
    **{"tp_loc": "2-5-8", "tp_ratio": 0.5, "score_predictor": "MlpPredictor"},
    **{"completion_net": "FusionNet", "compl_embed_dim": 24, "compl_depth": 1},
    "compl_num_heads": 4,
}


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    info = ModelInfo(
        name="nano",
        channels=("MRI",),
        classes=(LabelClass(value=7, name="seven", color=(255, 0, 0)),),
        preprocessing=({"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},),
    )
    folder = tmp_path_factory.mktemp("made") / "nano"
    write_bundle(folder, SCD(preset("nano"), info).eval(), CONFTEST["METADATA"], "# nano")
    return folder


@pytest.fixture
def model(nano: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(nano, tmp_path / "model"))


class Call:
    """Pickles as a call of a function: the payload of a hostile pickle."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


class State:
    """Pickles as an object whose ``__setstate__`` gets what it wants."""

    def __reduce__(self) -> Any:
        return torch.nn.Linear, (2, 2), {"hook": Call(exec, "raise SystemExit")}


def payloads(canary: Path) -> dict[str, Any]:
    """Objects that make the canary when they are unpickled, and others that may not be."""
    touch = f"open({str(canary)!r}, 'w')"
    tensor = torch.zeros(4)
    hooked = torch.nn.Parameter(torch.zeros(2))
    hooked.extra = Call(eval, touch)  # type: ignore[attr-defined]
    return {
        "os.system": Call(os.system, f"touch {canary}"),
        "eval": Call(eval, touch),
        "exec": Call(exec, touch),
        "import": Call(__import__, "os"),
        "getattr": Call(getattr, "os", "system"),
        "open": Call(open, str(canary), "w"),
        "mkdir": Call(os.mkdir, str(canary)),
        "in a state dict": {"state_dict": {"a": Call(eval, touch)}},
        "as a name": {"state_dict": {Call(os.mkdir, str(canary)): tensor}},
        "beside tensors": {"state_dict": {"a": tensor}, "extra": [Call(eval, touch)]},
        "in a parameter": {"state_dict": {"a": hooked}},
        "in a class": State(),
        "torch.load": Call(torch.load, str(canary)),
        "numpy's object type": {"state_dict": {"a": np.array([Call(eval, touch)], object)}},
        "a subprocess": Call(runpy.run_path, str(canary)),
        "a module": torch.nn.Linear(2, 2),
    }


KINDS = tuple(payloads(Path("none")))


def written(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def refusal(source: Path) -> str:
    with pytest.raises(ModelError) as refused:
        load_model(source)
    line = str(refused.value)
    assert "\n" not in line
    assert line.isprintable()
    assert "weights_only=False" not in line
    assert line.startswith(str(source))
    return line


def authors_folder(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**ARGUMENTS, **changes}))
    return folder


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_that_would_run_code_is_refused(
    tmp_path: Path, kind: str, zipped: bool
) -> None:
    canary = tmp_path / "canary"
    folder = authors_folder(tmp_path / "theirs")
    file = folder / "best_model.pth.tar"
    torch.save(payloads(canary)[kind], file, _use_new_zipfile_serialization=zipped)
    before = written(tmp_path)
    assert ": not a checkpoint of the authors' code (" in refusal(folder)
    with pytest.raises(ModelError):
        import_checkpoint(file, folder / "config.json", tmp_path / "imported")
    torch.save({"counters": {}, "x": payloads(canary)[kind]}, tmp_path / state.STATE_FILE)
    with pytest.raises(state.StateError, match="is not a state of a training run") as refused:
        state.counters(tmp_path)
    assert "\n" not in str(refused.value)
    assert written(tmp_path) == before | {state.STATE_FILE}


@pytest.mark.parametrize("kind", ["os.system", "eval", "mkdir"])
def test_a_bare_pickle_is_refused(tmp_path: Path, kind: str) -> None:
    folder = authors_folder(tmp_path / "theirs")
    content = pickle.dumps(payloads(tmp_path / "canary")[kind])
    for start in (b"", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b"PK\x03\x04"):
        (folder / "best_model.pth.tar").write_bytes(start + content)
        refusal(folder)
    assert not (tmp_path / "canary").exists()


def repacked(source: Path, target: Path, change: Callable[[str, bytes], bytes], how: int) -> None:
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w", how) as after:
        for record in before.infolist():
            after.writestr(record.filename, change(record.filename, before.read(record)))


def test_checkpoints_that_claim_more_than_they_hold_are_refused(tmp_path: Path) -> None:
    folder = authors_folder(tmp_path / "theirs")
    whole, file = tmp_path / "whole.pt", folder / "best_model.pth.tar"
    torch.save({"state_dict": {"a": torch.arange(64.0)}}, whole)

    def bomb(name: str, content: bytes) -> bytes:
        return bytes(2**26) if name.endswith("data/0") else content

    repacked(whole, file, bomb, zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 2**18
    assert "is compressed, which torch.save never does" in refusal(folder)

    def longer(name: str, content: bytes) -> bytes:
        size = content.replace(b"K@t", b"J\x00\x00\x00\x70t").replace(b"K@\x85", b"J\0\0\0\x70\x85")
        return size if name.endswith("data.pkl") else content

    repacked(whole, file, longer, zipfile.ZIP_STORED)
    refusal(folder)
    torch.save({"state_dict": {"a": torch.zeros(1).expand(10**12)}}, file)
    assert "a tensor claims shape (1000000000000,), but 4 bytes are stored" in refusal(folder)
    torch.save({"state_dict": {"a": torch.zeros(4, 4).to_sparse()}}, file)
    assert "torch.sparse_coo" in refusal(folder)


def test_records_that_lie_on_one_another_are_refused(tmp_path: Path) -> None:
    folder = authors_folder(tmp_path / "theirs")
    whole, file = tmp_path / "whole.pt", folder / "best_model.pth.tar"
    torch.save({"state_dict": {"a": torch.zeros(100_000), "b": torch.zeros(4)}}, whole)
    with zipfile.ZipFile(whole) as archive:
        offset = {Path(r.filename).name: r.header_offset for r in archive.infolist()}
    content = bytearray(whole.read_bytes())
    at = content.rindex(b"/data/1") - 46 - len("whole")  # the directory's entry of record 1
    large = struct.pack("<II", 400_000, 400_000)
    content[at + 20 : at + 28] = large
    content[at + 42 : at + 46] = struct.pack("<I", offset["0"])
    file.write_bytes(content)
    assert "bytes, the file has" in refusal(folder)


def change_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


HUGE = {
    "embed_dim": {"embed_dim": 12 * 10**5},
    "depth": {"depth": 10**9},
    "patch": {"patch_size": 10**6, "window": [10**6] * 3},
    "window": {"window": [32, 32, 2**40]},
    "classes": {"out_channels": 10**12},
    "channels": {"in_channels": 10**12},
    "completion": {"completion_dim": 24 * 10**6},
    "blocks": {"completion_depth": 10**9},
    "decoder": {"feature_size": 10**6},
    "exponent": {"embed_dim": 1e300},
    "digits": {"embed_dim": 10**29},
}


@pytest.mark.parametrize("which", HUGE)
def test_a_config_that_asks_for_an_enormous_network_is_refused_with_its_number(
    model: Path, which: str
) -> None:
    change_json(model / METADATA, lambda m: m[OUR_KEY]["network"].update(HUGE[which]))
    line = refusal(model)
    assert line.startswith(f"{model / METADATA}: not a model of ours (")
    assert "at most" in line or "integer" in line


def test_a_network_larger_than_its_weights_is_refused_before_it_is_made(model: Path) -> None:
    wide = {"embed_dim": 4800, "num_heads": 4}
    change_json(model / METADATA, lambda m: m[OUR_KEY]["network"].update(wide))
    size = (model / WEIGHTS).stat().st_size
    assert f"model.safetensors has {size} bytes; its network has 33" in refusal(model)


@pytest.mark.parametrize("name", ["nano", "small", "brain-structures"])
def test_the_bound_on_parameters_is_below_what_a_network_has(name: str) -> None:
    config = preset(name)
    parameters = sum(p.numel() for p in SCD(config).state_dict().values())
    assert 0.3 * parameters < config.fewest_parameters <= parameters


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("info", {"name": "../../etc"}, "must be a name, not a path"),
        ("info", {"name": ".."}, "must be a name, not a path"),
        ("info", {"name": "a\\b"}, "must be a name, not a path"),
        ("info", {"name": "\x1b]0;owned\x07"}, "printable characters"),
        ("info", {"name": ""}, "printable characters"),
        ("info", {"channels": ["T1", "T2"]}, "names 2 image channels; the network takes 1"),
        ("info", {"channels": ["a\nb"]}, "printable characters"),
        ("info", {"classes": []}, "0 classes need 1 output channels; the network has 2"),
        ("info", {"paint_order": [5]}, "must name each of the 1 classes once"),
        ("info", {"exclusive": False}, "1 classes need 1 output channels; the network has 2"),
        ("network", {"decoder": "os.system"}, "decoder"),
        ("network", {"_target_": "os.system"}, "_target_"),
        ("network", {"keep_ratio": [0.5, "$1", 1]}, "keep_ratio"),
        ("network", {"keep_ratio": [1e-9, 2, 0.5]}, "keep ratio"),
    ],
)
def test_metadata_that_is_a_path_a_trick_or_a_contradiction_is_refused(
    model: Path, part: str, changes: dict[str, Any], said: str
) -> None:
    change_json(model / METADATA, lambda m: m[OUR_KEY][part].update(changes))
    assert said in refusal(model)


@pytest.mark.parametrize("part", [METADATA, INFERENCE])
def test_json_that_a_parser_would_choke_on_is_refused(model: Path, part: Path) -> None:
    for text in ("[" * 100_000, '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e999}', "{", ""):
        (model / part).write_text(text)
        assert refusal(model).startswith(f"{model / part}: cannot be read (")


@pytest.mark.skipif(os.name == "nt", reason="links and pipes as POSIX has them")
@pytest.mark.parametrize("part", [METADATA, INFERENCE, WEIGHTS])
def test_links_out_of_the_folder_and_pipes_are_refused(
    model: Path, nano: Path, tmp_path: Path, part: Path
) -> None:
    (model / part).unlink()
    (model / part).symlink_to(nano / part)
    assert f"{model / part}: leads out of the model folder" in refusal(model)
    (model / part).unlink()
    os.mkfifo(model / part)
    with pytest.raises(ModelError):  # and does not wait for someone to write to it
        load_model(model)
    (model / part).unlink()
    (tmp_path / "link").symlink_to(nano)
    assert load_model(tmp_path / "link").info is not None  # a link to a whole folder is the user's


def header_of(file: Path) -> tuple[dict[str, Any], bytes]:
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_header(file: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_a_weights_file_whose_header_lies_is_refused(model: Path) -> None:
    file = model / WEIGHTS
    header, data = header_of(file)
    first, second = [name for name in header if name != "__metadata__"][:2]
    changes = {
        "overlapping": {second: {**header[second], "data_offsets": header[first]["data_offsets"]}},
        "beyond": {first: {**header[first], "data_offsets": [0, 2**40]}},
        "backwards": {first: {**header[first], "data_offsets": [8, 0]}},
        "shape": {first: {**header[first], "shape": [10**12]}},
        "overflow": {first: {**header[first], "shape": [2**40, 2**40]}},
        "negative": {first: {**header[first], "shape": [-1]}},
        "type": {first: {**header[first], "dtype": "OBJECT"}},
        "complex": {first: {**header[first], "dtype": "C64"}},
        "name": {"../../a": header[first]},
    }
    for change in changes.values():
        write_header(file, {**header, **change}, data)
        refusal(model)
    file.write_bytes((2**62).to_bytes(8, "little") + data)
    assert "claims a header of" in refusal(model)
    file.write_bytes((10**6).to_bytes(8, "little") + b"[" * 10**6 + data)
    refusal(model)


def test_weights_that_are_no_numbers_are_refused(model: Path) -> None:
    weights = load_file(model / WEIGHTS)
    name = "decoder.out.conv.conv.bias"
    for value, said in (
        (weights[name] * torch.nan, f"the weights hold NaN or infinity: {name}"),
        (weights[name].to(torch.int64), f"of another kind of number: {name} torch.int64"),
        (weights[name].to(torch.complex64), f"of another kind of number: {name} torch.complex64"),
    ):
        save_file({**weights, name: value}, model / WEIGHTS)
        assert said in refusal(model)


SPACE = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.0, 1.0, 1.0]}
CROP = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}
TRANSFORMS: dict[str, dict[str, Any]] = {
    "must be one of": {"_target_": "os.system", "command": "touch canary"},
    "must be one of Crop": {"_target_": "builtins.eval", "expression": "open('canary', 'w')"},
    "transform 'Lambdad'": {"_target_": "Lambdad", "keys": "image", "func": "$open('canary')"},
    "transform ['Spacingd']": {**SPACE, "_target_": ["Spacingd"]},
    "expressions are not": {**SPACE, "pixdim": "$__import__('os').mkdir('canary')"},
    "works on 'image' alone": {**SPACE, "keys": ["image", "label"]},
    "select_fn": {**CROP, "select_fn": "os.mkdir"},
    "margin": {**CROP, "margin": 10**9},
    "k_divisible": {**CROP, "k_divisible": 0},
    "pixdim: Input should be greater than 0": {**SPACE, "pixdim": 0.0},
    "pixdim": {**SPACE, "pixdim": {"_target_": "os.mkdir", "path": "canary"}},
    "dtype": {**SPACE, "dtype": "object"},
    "lazy": {**SPACE, "lazy": True},
    "recompute": {**SPACE, "recompute": 1},
    "1e+27 voxels": {**SPACE, "pixdim": [8e-9] * 3},
}


@pytest.mark.parametrize("said", TRANSFORMS)
def test_a_bundle_gets_no_transform_and_no_argument_that_is_not_on_the_list(
    model: Path, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    before = written(tmp_path)
    change_json(
        model / INFERENCE, lambda i: i["preprocessing"]["transforms"].append(TRANSFORMS[said])
    )
    info = load_model(model).info
    assert info is not None
    volume = Volume(np.ones((1, 8, 8, 8), np.float32), np.eye(4), "scan")
    with pytest.raises(PreprocessError) as refused:
        preprocess(volume, info.preprocessing)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert written(tmp_path) == before


def test_the_rest_of_a_bundles_configs_is_not_looked_at(model: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    run = f"$__import__('pathlib').Path({str(canary)!r}).touch()"
    call = {"_target_": "pathlib.Path.touch", "self": str(canary)}

    def arm(content: dict[str, Any]) -> None:
        content.update(imports=[run], run=[run], initialize=[run], network=call, device=run)
        content["network_def"] = {"_target_": "os.system", "command": f"touch {canary}"}
        content["postprocessing"] = content["evaluator"] = call

    change_json(model / INFERENCE, arm)
    change_json(model / METADATA, lambda m: m.update(version=run, required_packages_version=call))
    (model / "configs/logging.conf").write_text(f"[loggers]\nkeys={run}\n")
    (model / "scripts").mkdir()
    (model / "scripts/__init__.py").write_text(f"open({str(canary)!r}, 'w')")
    assert load_model(model).info is not None
    assert not canary.exists()
    change_json(model / INFERENCE, lambda i: i["inferer"].update(overlap="$0.5"))
    refusal(model)
    change_json(model / INFERENCE, lambda i: i["preprocessing"].update(transforms=run))
    refusal(model)
    assert not canary.exists()


TAGS = (
    "!!python/object/apply:os.system ['touch canary']",
    "!!python/object/new:os.system ['touch canary']",
    "a: !!python/name:os.system",
    "a: !!python/module:os",
    "a: !!python/object:subprocess.Popen {}",
    "a: &a [*a]",
)


@pytest.mark.parametrize("text", TAGS)
def test_yaml_that_would_make_objects_is_refused_wherever_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = authors_folder(tmp_path / "theirs")
    (folder / "config.json").write_text(text)
    torch.save({"state_dict": {}}, folder / "best_model.pth.tar")
    (tmp_path / "run.yaml").write_text(f"output: out\noverrides:\n  {text}")
    before = written(tmp_path)
    assert "config.json: cannot be read (" in refusal(folder)
    with pytest.raises(ValueError, match=r"run\.yaml: cannot be read") as refused:
        RunConfig.read(tmp_path / "run.yaml")
    assert "\n" not in str(refused.value)
    assert written(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"encoder_embed_dim": 10**6}, "parameters"),
        ({"encoder_depth": 10**9}, "depth 1000000000: at most"),
        ({"tp_loc": "9" * 5000}, "cannot be used ("),
        ({"roi_x": "__import__('os')"}, "cannot be used ("),
        ({"num_classes": 10**15}, "out_channels 1000000000000000: at most"),
        ({"dec_arch": ["a"]}, "cannot be used ("),
    ],
)
def test_arguments_of_the_authors_that_cannot_be_are_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    folder = authors_folder(tmp_path / "theirs", **changes)
    torch.save({"state_dict": {"a": torch.zeros(1)}}, folder / "best_model.pth.tar")
    assert said in refusal(folder)


@pytest.mark.parametrize(
    "saved",
    [
        [],
        {1: 2},
        {"counters": 3},
        {"counters": {"step": "many"}},
        {"counters": {"step": -1}},
        {"counters": {"speed": 1}},
        {"counters": {"seconds": float("nan")}},
    ],
)
def test_a_state_that_says_nonsense_is_refused(tmp_path: Path, saved: Any) -> None:
    torch.save(saved, tmp_path / state.STATE_FILE)
    with pytest.raises(state.StateError, match=r"state\.pt: ") as refused:
        state.counters(tmp_path)
    assert "\n" not in str(refused.value)
    with pytest.raises(state.StateError):
        state.best_weights(tmp_path)


def test_a_damaged_state_is_refused_and_a_whole_one_is_read(tmp_path: Path) -> None:
    state.write(tmp_path / state.STATE_FILE, {"counters": {"step": 3}, "ema": {"module.a": 1}})
    assert state.counters(tmp_path) == state.Counters(step=3)
    content = (tmp_path / state.STATE_FILE).read_bytes()
    for cut in (0, 1, 10, len(content) // 2, len(content) - 1):
        (tmp_path / state.STATE_FILE).write_bytes(content[:cut])
        with pytest.raises(state.StateError):
            state.counters(tmp_path)


def test_moments_of_another_shape_are_refused() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.AdamW([parameter])
    optimizer.state[parameter] = {"step": torch.tensor(1.0), "exp_avg": torch.ones(3)}
    state.check_moments(optimizer)
    optimizer.state[parameter]["exp_avg"] = torch.zeros(1).expand(10**12)
    with pytest.raises(ValueError, match="exp_avg of shape"):
        state.check_moments(optimizer)


@pytest.mark.parametrize(
    ("field", "value"), [("processes", 10**6), ("workers", 10**6), ("output", None)]
)
def test_a_run_of_a_stranger_cannot_ask_for_a_million_processes(
    tmp_path: Path, field: str, value: Any
) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"output": "out", field: value}))
    with pytest.raises(ValueError, match=rf"run\.yaml: {field} "):
        RunConfig.read(tmp_path / "run.yaml")


def test_reading_leaves_the_global_list_of_what_may_be_unpickled_alone(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    folder = authors_folder(tmp_path / "theirs")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, folder / "best_model.pth.tar")
    refusal(folder)
    assert set(torch.serialization.get_safe_globals()) == before


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a config where a value stands, and every list and dict."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    inner = [(*path, key) for key, _ in pairs]
    below = [(p, v) for p in inner if isinstance(v := at(value, p[len(path) :]), dict | list)]
    return inner + [place for p, v in below for place in leaves(v, p)]


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def put_everywhere(model: Path, part: Path, value: Any) -> int:
    """Put a value at every place of a config in turn, and use the folder; how many there were."""
    whole = json.loads((model / part).read_text("utf-8"))
    places = leaves(whole)
    for place in places:
        changed = json.loads(json.dumps(whole))
        at(changed, place[:-1])[place[-1]] = value
        (model / part).write_text(json.dumps(changed), "utf-8")
        with contextlib.suppress(ModelError, DefinitionError):
            for definition in describe_folder(model).info.preprocessing:
                check_definition(definition)
    (model / part).write_text(json.dumps(whole), "utf-8")
    return len(places)


def changed_pickles(folder: Path, times: int) -> int:
    """Read every payload with a few bytes changed, in both forms; how many files there were."""
    rng, count = np.random.default_rng(0), 0
    canary, whole, file = folder / "canary", folder / "whole.pt", folder / "changed.pt"
    for kind in KINDS:
        for zipped in (True, False):
            torch.save(payloads(canary)[kind], whole, _use_new_zipfile_serialization=zipped)
            content = whole.read_bytes()
            for _ in range(times):
                changed = bytearray(content)
                for place in rng.integers(0, len(content), rng.integers(0, 4)):
                    changed[place] = rng.integers(0, 256)
                file.write_bytes(changed)
                with contextlib.suppress(PickledError):
                    read_pickled(file)
                count += 1
    return count


@pytest.mark.deep
def test_nothing_runs_wherever_it_stands(
    model: Path, tmp_path: Path, figures: Callable[[str, dict[str, Any]], None]
) -> None:
    canary = tmp_path / "canary"
    run = f"$__import__('pathlib').Path({str(canary)!r}).touch()"
    values = [
        run,
        {"_target_": "os.system", "command": f"touch {canary}"},
        {"_target_": "builtins.eval", "expression": run[1:]},
        {"_target_": "pathlib.Path.touch", "self": str(canary), "_mode_": "default"},
        {"_target_": "monai.transforms.Lambdad", "keys": "image", "func": run},
        f"%{model / METADATA}#napari_tokensparse",
        ["@network", run],
        None,
    ]
    names = sorted(set(dir(monai.transforms)) - set(ALLOWED))
    for name in names:
        with pytest.raises(DefinitionError):
            check_definition({"_target_": name, "keys": "image"})
    placed = sum(put_everywhere(model, p, v) for p in (METADATA, INFERENCE) for v in values)
    pickles = changed_pickles(tmp_path, 100)
    assert not canary.exists()
    said = {
        "calls and expressions at every place of a bundle's configs": placed,
        "names of MONAI's transforms that are not on the list": len(names),
        "pickles with a payload, whole and with changed bytes": pickles,
    }
    figures("hostile", {"tests": said})
