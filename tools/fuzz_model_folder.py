"""Feed changed files to everything that reads a model folder or a config, guided by coverage.

python tools/fuzz_model_folder.py --minutes 10 --figures docs/reliability

What is read must come back as values or as a ``ValueError`` of one line; anything else, or more
than 10 s or 4 GB, is a crash, and the bytes that led to it are kept in the folder ``fuzz-crashes``.
Needs atheris: the dependency group ``fuzz``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CRASHES = Path("fuzz-crashes")
CHILD = "--child"
_METADATA = {"version": "1", "task": "fuzz", "description": "", "authors": "", "copyright": ""}


def fuzz(minutes: float, figures: Path | None) -> int:
    """Fuzz in a process of its own and write down how often; 0 if nothing crashed."""
    with tempfile.TemporaryDirectory() as name:
        command = [
            *(sys.executable, __file__, CHILD, name),
            *(f"-max_total_time={int(60 * minutes)}", "-print_final_stats=1", "-timeout=10"),
            *("-rss_limit_mb=4096", "-max_len=100000", f"-artifact_prefix={CRASHES}/"),
        ]
        CRASHES.mkdir(exist_ok=True)
        ran = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
    match = re.search(r"stat::number_of_executed_units:\s*(\d+)", ran.stderr)
    executions = int(match[1]) if match else 0
    crashed = ran.returncode != 0
    print("\n".join(ran.stderr.splitlines()[-40:]) if crashed else f"{executions} executions")
    if not any(CRASHES.iterdir()):
        CRASHES.rmdir()
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        said = {"minutes": minutes, "executions": executions, "crashes": int(crashed)}
        (figures / "fuzz.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return ran.returncode


def child(seeds: Path, options: list[str]) -> None:
    """Be the process that libFuzzer runs: it ends it, too."""
    import atheris

    with atheris.instrument_imports(include=["napari_tokensparse", "yaml", "json"]):
        from napari_tokensparse.datasets.datalists import read_data_set
        from napari_tokensparse.model.authors import read_authors
        from napari_tokensparse.model.bundle import load_weights, read_weights
        from napari_tokensparse.model.folder import INFERENCE, METADATA, WEIGHTS, describe_folder
        from napari_tokensparse.training import state
        from napari_tokensparse.training.events import from_json
        from napari_tokensparse.training.runconfig import RunConfig
        from napari_tokensparse.volumes.definitions import check_definition
    from napari_tokensparse.model.presets import preset
    from napari_tokensparse.model.scd import SCD

    folder = seeds / "files"
    network = SCD(preset("nano"))
    _write_files(folder, network)

    def describe(changed: Path) -> None:
        for definition in describe_folder(folder / "nano").info.preprocessing:
            check_definition(definition)

    targets: list[tuple[Path, Callable[[Path], Any]]] = [
        (folder / "nano" / METADATA, describe),
        (folder / "nano" / INFERENCE, describe),
        (folder / "nano" / WEIGHTS, lambda p: load_weights(network, read_weights(p), "it")),
        (folder / "theirs/config.json", lambda p: read_authors(folder / "theirs/best.pth.tar", p)),
        (folder / "theirs/best.pth.tar", lambda p: read_authors(p, folder / "theirs/config.json")),
        (folder / "run.yaml", RunConfig.read),
        (folder / "data/dataset.json", read_data_set),
        (folder / "state.pt", lambda p: state.best_weights(p.parent)),
        (
            folder / "events.jsonl",
            lambda p: [from_json(t) for t in p.read_text("utf-8").split("\n")],
        ),
    ]
    whole = [path.read_bytes() for path, _ in targets]

    def one(data: bytes) -> None:
        number = data[0] % len(targets) if data else 0
        path, read = targets[number]
        path.write_bytes(data[1:])
        try:
            read(path)
        except ValueError as error:
            if "\n" in str(error):
                raise RuntimeError(f"more than a line: {error}") from error
        finally:
            path.write_bytes(whole[number])

    (seeds / "corpus").mkdir()
    for number, content in enumerate(whole):
        (seeds / "corpus" / str(number)).write_bytes(bytes([number]) + content)
    atheris.Setup([sys.argv[0], *options, str(seeds / "corpus")], one)
    atheris.Fuzz()


def _write_files(folder: Path, network: Any) -> None:
    """Write one good file of each kind, so that changes start from there."""
    import torch

    from napari_tokensparse.model.bundle import write_bundle
    from napari_tokensparse.model.info import LabelClass, ModelInfo
    from napari_tokensparse.training import state
    from napari_tokensparse.training.events import Finished, to_json
    from napari_tokensparse.training.runconfig import RunConfig

    network.info = ModelInfo(
        name="nano",
        channels=("MRI",),
        classes=(LabelClass(value=7, name="seven", color=(255, 0, 0)),),
        preprocessing=({"_target_": "Spacingd", "keys": "image", "pixdim": [2.0, 2.0, 2.0]},),
    )
    write_bundle(folder / "nano", network, _METADATA, "# nano")
    for part in ("theirs", "data/imagesTr", "data/labelsTr"):
        (folder / part).mkdir(parents=True)
    (folder / "theirs/config.json").write_text(json.dumps(_arguments()))
    torch.save({"state_dict": {"a": torch.zeros(4)}, "epoch": 3}, folder / "theirs/best.pth.tar")
    RunConfig(output=Path("out"), overrides={"lr": 0.01}).write(folder / "run.yaml")
    listed = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    said = {"labels": {"0": "background", "1": "one"}, "modality": {"0": "CT"}}
    (folder / "data/dataset.json").write_text(json.dumps({"training": [listed], **said}))
    state.write(folder / "state.pt", {"counters": {"step": 1}, "ema": {"module.a": torch.ones(2)}})
    (folder / "events.jsonl").write_text(to_json(Finished(3, Path("out"), 0.5, "steps")))


def _arguments() -> dict[str, Any]:
    sizes = {"roi_x": 32, "roi_y": 32, "roi_z": 32, "patch_size": 8, "in_chans": 1}
    encoder = {"encoder_embed_dim": 24, "encoder_depth": 12, "encoder_num_heads": 4}
    return {
        **{"enc_arch": "VisionTransformerTokenPruningV1", "dec_arch": "UNETRx8_decoderv2"},
        **{**sizes, **encoder, "feature_size": 2, "num_classes": 2, "tp_loc": "2-5-8"},
        **{"tp_ratio": 0.5, "score_predictor": "MlpPredictor", "completion_net": "FusionNet"},
        **{"compl_embed_dim": 24, "compl_depth": 1, "compl_num_heads": 4},
    }


def main() -> None:
    """Read the command line."""
    if sys.argv[1:2] == [CHILD]:
        child(Path(sys.argv[2]), sys.argv[3:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--figures", type=Path, help="folder for fuzz.json")
    options = parser.parse_args()
    raise SystemExit(fuzz(options.minutes, options.figures))


if __name__ == "__main__":
    main()
