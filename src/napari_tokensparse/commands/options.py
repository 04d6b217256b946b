"""Options and habits that the commands share."""

from __future__ import annotations

import os
from pathlib import Path  # typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_tokensparse.model.folder import Described
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.segmenting.options import Options
    from napari_tokensparse.volumes.region import Box
    from napari_tokensparse.volumes.volume import Volume

DEFAULT_MODEL = "brain-structures"

ModelOption = Annotated[
    str,
    typer.Option(
        help="Bundled or user model, model folder, hf://owner/repo of the Hugging Face Hub, or "
        "authors' checkpoint folder."
    ),
]
KeepOption = Annotated[
    str | None,
    typer.Option(
        metavar="RATIO[,RATIO…]",
        help="Share of live tokens that each stage keeps, in (0, 1]: one number, or one per stage. "
        "[default: the model's]",
    ),
]
LabelsOption = Annotated[
    Path | None, typer.Option(help="Folder of labels, where DATA is a folder of images.")
]

FoldOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Which fold of a list that has them is held out. [default: the lowest, unless "
        "validation cases are listed]",
    ),
]


def _device(context: typer.Context, parameter: typer.CallbackParam, given: str) -> str:
    """Return the device that is given, or else that of napari's settings."""
    source = context.get_parameter_source(parameter.name or "")
    if source is not None and source.name != "DEFAULT":
        return given
    from napari_tokensparse.common import settings

    try:
        return settings.current().computing.device
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


DeviceOption = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:N or mps; if not given, that of napari's settings.",
        callback=_device,
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Threads that torch takes; if not given, as napari's settings say, or its own.",
    ),
]
BackendOption = Annotated[
    str,
    typer.Option(help="How the network is run: auto, plain, openvino, int8, bfloat16 or compile."),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        help="float32 or bfloat16 binds the backend auto to it; auto takes bfloat16 on a CPU only "
        "where it is faster and labels of the sample stay the same."
    ),
]
RegionOption = Annotated[
    str | None,
    typer.Option(
        metavar="I0:I1,J0:J1,K0:K1",
        help="Only this box of voxels, counted from 0, the ends I1, J1, K1 not included. "
        "An end that is not given is the volume's.",
    ),
]
TableOption = Annotated[
    Path | None,
    typer.Option(
        metavar="CSV",
        help="Table to write, a row per class: volume, voxels, bounding box, mean intensity, "
        "share of voxels whose token was kept, mean importance.",
    ),
]
LegendOption = Annotated[
    bool,
    typer.Option(
        help="Write names and colours of the classes beside the labels, "
        "for ITK-SNAP (.label.txt) and as in BIDS (_dseg.tsv)."
    ),
]
SharpenOption = Annotated[
    bool | None,
    typer.Option(
        "--sharpen/--no-sharpen",
        help="Sharpen borders by the scan's own voxels, where their intensities tell classes "
        "apart. [default: as the model says]",
        show_default=False,
    ),
]
StripOption = Annotated[
    bool | None,
    typer.Option(
        "--strip/--no-strip",
        help="Take the skull off a whole head first, by the labels of the model or of the one it "
        "names. [default: as the model says]",
        show_default=False,
    ),
]
LeastConfidenceOption = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Leave out connected pieces of a class that the network gives nowhere a probability "
        "of P or more; 0 leaves out none. [default: as the model says]",
        show_default=False,
    ),
]
ScanArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="IN",
        help="Volume: a NIfTI, NRRD or MGH file, or the folder of a DICOM series.",
        show_default=False,
    ),
]
ChannelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--channel",
        metavar="NAME=FILE",
        help="In place of IN: a file with one channel of the model; once for each, in any order. "
        "The first one's grid is that of the labels.",
    ),
]
FrameOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Which frame of a time series, or image of each place of a DICOM series, from 0.",
    ),
]
SeriesOption = Annotated[
    str | None,
    typer.Option(metavar="NUMBER|UID", help="Which series of a DICOM folder that holds several."),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        metavar="tcp://HOST:PORT", help="Many scans: the dask cluster to run on, not this machine."
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(help="Many scans: processes that share this machine. [default: one per 4 cores]"),
]
RetriesOption = Annotated[
    int,
    typer.Option(help="Many scans: how often one is tried again when memory or a worker fails it."),
]
OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace files that are not as tokensparse wrote them; inputs never are.",
    ),
]
ImportanceOption = Annotated[
    float | None,
    typer.Option(
        help="In place of --keep-ratio: keep the tokens of at least this importance, in [0, 1], so "
        "that every window keeps what it needs."
    ),
]
PinOption = Annotated[
    str | None,
    typer.Option(
        metavar="MASK", help="Tokens never to prune: those under a mask, or their numbers."
    ),
]
DropOption = Annotated[
    str | None,
    typer.Option(
        metavar="MASK", help="Tokens to prune first: those under a mask, or their numbers."
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def keep_ratios_of(asked: Mapping[str, Any]) -> tuple[float, ...] | float | None:
    """Read ``--keep-ratio``, which does not go with ``--importance``."""
    if asked["keep_ratio"] is not None and asked.get("importance") is not None:
        raise ValueError(
            f"--importance {asked['importance']:g}: stands in place of --keep-ratio "
            f"{asked['keep_ratio']}; give one of them"
        )
    return ratios_of(asked["keep_ratio"])


def ratios_of(text: str | None) -> tuple[float, ...] | float | None:
    """Read one keep ratio, or one per stage."""
    if text is None:
        return None
    try:
        ratios = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"keep ratio {text!r}: must be one number, or one per stage with commas between"
        ) from None
    return ratios[0] if len(ratios) == 1 else ratios


_MODELS_OWN = ("sharpen", "strip", "least_confidence")  # where a person says nothing


def asked_options(asked: Mapping[str, Any], model: Described) -> Options:
    """Gather what is asked of a run, with names in place of paths."""
    from napari_tokensparse.model.hub import is_hub_address
    from napari_tokensparse.segmenting.options import Options, options_for

    if asked["ablate"] not in (None, "encoder"):
        raise ValueError(f"--ablate {asked['ablate']}: only 'encoder' can be left out")
    filled: dict[str, Any] = {"keep_ratio": keep_ratios_of(asked)}
    filled |= {name: asked[name] for name in _MODELS_OWN if name in asked}
    if asked.get("probabilities") is not None:
        filled["probabilities"] = [name.strip() for name in asked["probabilities"].split(",")]
    kept = set(Options.model_fields) - {"probabilities"}
    said = {name: asked[name] for name in Options.model_fields if name in kept & set(asked)}
    said |= {"pin": None, "drop": None}  # numbers of tokens, when there is a scan
    local = ("regions", "table", "tokens", *(["model"] * (not is_hub_address(said["model"]))))
    paths = (name for name in local if said[name] is not None)
    names = {name: Path(os.path.abspath(said[name])).name for name in paths}
    return options_for(model, **{**said, **names, **filled})


def with_pins(options: Options, asked: Mapping[str, Any], volume: Volume, network: SCD) -> Options:
    """Add the tokens of the volume that ``--pin`` and ``--drop`` name."""
    given = {name: asked[name] for name in ("pin", "drop") if asked[name] is not None}
    if not given:
        return options
    from napari_tokensparse.segmenting.pinmasks import read_pins

    pins = {k: read_pins(text, volume, network, options) for k, text in given.items()}
    return options.model_copy(update=pins)


def asked_scans(
    scan: str | Path | None, channels: list[str] | None, frame: int | None, series: str | None
) -> dict[str, Path]:
    """Return IN, by the name "", or the file of each channel that ``--channel`` gives."""
    if not channels:
        if scan is None:
            raise ValueError("give IN, or --channel NAME=FILE for each channel of the model")
        return {"": Path(scan)}
    if scan is not None:
        raise ValueError(f"{scan}: --channel is given in its place; give one of them")
    if frame is not None or series is not None:
        raise ValueError("--frame and --series choose from IN; they do not go with --channel")
    return channel_paths(channels)


def read_case(
    scan: str | Path | None,
    channels: list[str] | None,
    network: SCD,
    frame: int | None,
    series: str | None,
) -> Volume:
    """Read IN, or the files of ``--channel`` as the channels of one case."""
    from napari_tokensparse.segmenting.infer import read_input

    scans = asked_scans(scan, channels, frame, series)
    return read_input(scans, network.info, frame=frame, series=series)


def channel_paths(channels: list[str]) -> dict[str, Path]:
    """Read what ``--channel`` says: the file of each channel."""
    paths: dict[str, Path] = {}
    for text in channels:
        name, _, path = text.partition("=")
        if not name or not path:
            raise ValueError(f"--channel {text}: must be NAME=FILE, for example T1=t1.nii.gz")
        if name in paths:
            raise ValueError(f"--channel {text}: {name} is given twice; give each channel once")
        paths[name] = Path(path)
    return paths


def use_threads(given: int | None) -> None:
    """Compute with as many threads as are given, or else as napari's settings say."""
    from napari_tokensparse.common import settings
    from napari_tokensparse.compute.devices import use_threads as used

    used(settings.current().computing.threads if given is None else given)


def region_of(text: str | None, volume: Volume) -> Box | None:
    """Read a box of the volume."""
    from napari_tokensparse.volumes.region import parse_box

    return None if text is None else parse_box(text, volume.shape, volume.name)


def check_table(path: Path | None) -> None:
    """Refuse a table that could not be written, before a run rather than after it."""
    if path is None:
        return
    if path.suffix.lower() != ".csv":
        raise ValueError(f"{path}: the table must end in .csv")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder; create it first")


def check_folder(path: Path | None) -> None:
    """Refuse a folder that could not be made, before a run rather than after it."""
    if path is not None and path.exists() and not path.is_dir():
        raise ValueError(f"{path}: is a file; name a folder")


def input_files(scan: Path | None, channels: list[str] | None, *more: Path | None) -> list[Path]:
    """Return all that is read, so that no output takes its place."""
    given = (scan, *channel_paths(channels or []).values(), *more)
    return [path for path in given if path is not None]
