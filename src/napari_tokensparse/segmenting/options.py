"""What a person asks for when a scan is segmented, and the command line that asks for it.

Imports no torch: a receipt is read, and a cluster's client decides, without it.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from napari_tokensparse.model.hub import is_hub_address
from napari_tokensparse.model.ratios import Importance, Share, keep_ratios
from napari_tokensparse.volumes.region import Box, parse_box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tokensparse.model.folder import Described
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.model.ratios import Rule
    from napari_tokensparse.volumes.volume import Volume

_OUTPUT_ONLY = {"confidence", "legend", "probabilities", "regions", "table", "tokens"}


def base_name(path: str) -> str:
    r"""Return the last part of a path, whichever system wrote it.

    Examples
    --------
    >>> base_name("/home/me/Jane Doe/scan.nii.gz"), base_name(r"C:\scans\a.nii"), base_name("m/")
    ('scan.nii.gz', 'a.nii', 'm')
    """
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def _checked_name(name: str) -> str:
    if not name or name != base_name(name):
        raise ValueError("must be a name without a folder")
    return name


BaseName = Annotated[str, AfterValidator(_checked_name)]


def _checked_model(name: str) -> str:
    """Let an address of the hub pass: it is no path of this machine, and names no patient."""
    return name if is_hub_address(name) else _checked_name(name)


ModelName = Annotated[str, AfterValidator(_checked_model)]


class Options(BaseModel):
    """What is asked for, in the words of ``tokensparse segment``; `options_for` makes it.

    Attributes
    ----------
    model : str
        Name of the model or of its folder, or its address on the hub.
    keep_ratio : tuple of float
        Per stage, the model's own filled in.
    importance : float or None
        In place of the keep ratios: a stage keeps every token whose importance is at least this, in
        [0, 1], and never fewer than one.
    pin, drop : str or None
        Numbers of tokens that are never pruned, and of those that the first stage prunes, whatever
        their scores (`napari_tokensparse.segmenting.pins`).
    device : str or None
        Where to run: ``auto`` leaves it to the machine; None is where the model is.
    backend : str
        How to run the network: ``auto`` leaves it to the machine.
    precision : str
        ``float32`` or ``bfloat16`` binds ``auto`` to it; ``auto`` leaves it to the machine.
    scorer : str
        What tokens are pruned by: ``learned``, the model's own scores; or, to compare with,
        ``random``, ``intensity`` or ``foreground``.
    ablate : str or None
        ``encoder`` where its blocks are left out: do the tokens matter at all?
    seed : int
        Key of random scores, with the window's number.
    overlap : float or None
        Share of a window that the next one covers, in [0, 1); None is the model's.
    frame : int or None
        Which frame of a time series.
    series : str or None
        Number of the series of a DICOM folder that holds several.
    region : str or None
        ``i0:i1,j0:j1,k0:k1`` in voxels.
    sharpen : bool
        Whether labels are sharpened, the model's own wish filled in.
    least_confidence : float
        In [0, 1): how probable a connected piece of a class must be at its surest voxel to count,
        the model's own filled in; 0 counts every piece.
    strip : bool
        Whether a whole head is stripped of its skull first, the model's own wish filled in.
    confidence : bool
        Whether the winner's probability is kept, voxel by voxel.
    probabilities : tuple of str
        Names of the classes whose probability is kept.
    legend : bool
        Whether names and colours of the classes are written beside the labels.
    table, tokens, regions : str or None
        Name of the table, and of the folders of token maps and of masks of regions, where they are
        written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelName
    keep_ratio: tuple[float, ...]
    importance: float | None = Field(default=None, ge=0, le=1)
    pin: str | None = None
    drop: str | None = None
    device: str | None = "auto"
    backend: str = "auto"
    precision: str = "auto"
    scorer: str = "learned"
    ablate: Literal["encoder"] | None = None
    seed: int = 0
    overlap: float | None = None
    frame: int | None = None
    series: str | None = None
    region: str | None = None
    sharpen: bool = False
    least_confidence: float = Field(default=0.0, ge=0, lt=1)
    strip: bool = False
    confidence: bool = False
    probabilities: tuple[str, ...] = ()
    legend: bool = True
    table: BaseName | None = None
    tokens: BaseName | None = None
    regions: BaseName | None = None

    @property
    def rule(self) -> Rule:
        """What says how many tokens a stage keeps."""
        if self.importance is not None:
            return Importance(self.importance)
        return Share(self.keep_ratio)

    @property
    def most_kept(self) -> tuple[float, ...]:
        """Keep ratios that a run does not exceed, but for pins."""
        return self.keep_ratio if self.importance is None else (1.0,) * len(self.keep_ratio)

    @property
    def prunes_nothing(self) -> bool:
        """Whether every token reaches the end."""
        return self.drop is None and not self.importance and set(self.most_kept) <= {1.0}

    @property
    def kept(self) -> str:
        """What is kept, in a word: a keep ratio, one for each stage, or the least importance.

        Examples
        --------
        >>> Options(model="m", keep_ratio=(0.5, 0.5)).kept
        '0.5'
        >>> Options(model="m", keep_ratio=(0.5, 0.5), importance=0.2, pin="3").kept
        '≥ 0.2, pins'
        """
        ratios = self.keep_ratio[:1] if len(set(self.keep_ratio)) == 1 else self.keep_ratio
        said = " / ".join(f"{ratio:g}" for ratio in ratios)
        if self.importance is not None:
            said = f"≥ {self.importance:g}"
        return said if (self.pin, self.drop) == (None, None) else f"{said}, pins"

    @property
    def kept_in_words(self) -> str:
        """The same as `kept`, with what it is."""
        return f"{'keep ratio' if self.importance is None else 'importance'} {self.kept}"

    @property
    def windows_differ(self) -> bool:
        """Whether stages keep other numbers of tokens in other windows, so that each runs alone."""
        return (self.importance, self.pin, self.drop) != (None, None, None)

    def same_labels(self, other: Options) -> bool:
        """Whether both ask for the same labels, whatever else is written beside them."""
        return self.model_dump(exclude=_OUTPUT_ONLY) == other.model_dump(exclude=_OUTPUT_ONLY)

    @property
    def maps(self) -> int:
        """How many maps of probabilities are made."""
        return len(self.probabilities) + self.asks_confidence

    @property
    def asks_confidence(self) -> bool:
        """Whether the winner's probability must be known, be it kept or not."""
        return self.confidence or self.least_confidence > 0

    def box(self, volume: Volume) -> Box | None:
        """Return the region of a volume; None for all of it.

        Raises
        ------
        RegionError
            In one line: it is not written as a region, or does not fit the volume.
        """
        return None if self.region is None else parse_box(self.region, volume.shape, volume.name)


def options_for(
    model: Described,
    /,
    keep_ratio: float | Sequence[float] | None = None,
    *,
    sharpen: bool | None = None,
    strip: bool | None = None,
    least_confidence: float | None = None,
    region: Box | str | None = None,
    probabilities: Sequence[str] = (),
    importance: float | None = None,
    **said: Any,
) -> Options:
    """Gather what is asked of a run, and fill in what the model says.

    Parameters
    ----------
    model
        Loaded, or the description of its folder.
    keep_ratio
        One number, or one per stage; the model's own if not given.
    sharpen, strip, least_confidence
        As the model says if not given.
    region
        Part of the volume; all of it if not given.
    probabilities
        Names or values of the classes whose probability is kept; ``all`` is every one.
    importance
        The least importance of what is kept, in place of the keep ratio.
    **said
        The other fields of `Options`; ``model`` is the model's own name if not given.

    Raises
    ------
    ValueError
        In one line: a keep ratio is outside (0, 1], an importance outside [0, 1], overlapping
        regions cannot be sharpened nor have a least confidence, the model cannot tell a head, or
        there is no such class.
    ModelError
        A network without `ModelInfo`.
    """
    config, info = model.config, model.info
    if importance is not None:
        Importance(importance)  # which says in one line what it must be
    ratios = keep_ratios(config.keep_ratio if keep_ratio is None else keep_ratio, config.stages)
    return Options(
        **{"model": base_name(info.name) or "model", **said},
        keep_ratio=ratios,
        sharpen=info.sharpens(sharpen),
        strip=info.strips(strip),
        least_confidence=info.least_confidence_of(least_confidence),
        region=None if region is None else str(region),
        probabilities=info.class_names(probabilities),
        importance=importance,
    )


def command_line(
    options: Options,
    scans: Sequence[tuple[str, str]],
    output: str,
    info: ModelInfo | None = None,
) -> str:
    """Write the command that asks for the same, with names in place of paths.

    Parameters
    ----------
    options
        What is asked for.
    scans
        Channel and file of each scan; one without a channel is all of the case.
    output
        The labels' file.
    info
        Of the model: what it does if nothing is said need not be said.

    Examples
    --------
    >>> options = Options(model="brain-structures", keep_ratio=(0.5, 0.5, 0.5), device="cpu")
    >>> command_line(options, [("", "scan.nii.gz")], "labels.nii.gz")[:52]
    'tokensparse segment scan.nii.gz -o labels.nii.gz --m'
    >>> command_line(options, [("", "scan.nii.gz")], "labels.nii.gz")[48:]
    ' --model brain-structures --keep-ratio 0.5 --device cpu'
    """
    ratios = options.keep_ratio if len(set(options.keep_ratio)) > 1 else options.keep_ratio[:1]
    words = [
        w for name, file in scans for w in (["--channel", f"{name}={file}"] if name else [file])
    ]
    by_importance = options.importance is not None
    said = {
        "frame": None if options.frame is None else str(options.frame),
        "series": options.series,
        "model": options.model,
        "keep-ratio": None if by_importance else ",".join(map(repr, ratios)) or None,
        "importance": repr(options.importance) if by_importance else None,
        "pin": options.pin,
        "drop": options.drop,
        "device": _unless(options.device or "auto", "auto"),
        "backend": _unless(options.backend, "auto"),
        "precision": _unless(options.precision, "auto"),
        "scorer": _unless(options.scorer, "learned"),
        "ablate": options.ablate,
        "region": options.region,
        "probabilities": ",".join(options.probabilities),
        "table": options.table,
        "tokens": options.tokens,
        "regions": options.regions,
    }
    words += ["-o", output]
    words += [word for key, value in said.items() if value for word in (f"--{key}", value)]
    for name in ("sharpen", "strip"):
        if getattr(options, name) != (info is not None and getattr(info, name)):
            words.append(f"--{name}" if getattr(options, name) else f"--no-{name}")
    if options.least_confidence != (0.0 if info is None else info.least_confidence):
        words += ["--least-confidence", repr(options.least_confidence)]
    words += ["--confidence"] if options.confidence else []
    words += [] if options.legend else ["--no-legend"]
    return shlex.join(["tokensparse", "segment", *words])


def _unless(value: str, default: str) -> str | None:
    return None if value == default else value
