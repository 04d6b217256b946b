"""What a benchmark found, as rows that can be written, read and compared; needs no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

TOTAL = "total"
MONAI_INFERER = "monai-inferer"
DENSE, LITE = "dense", "-lite"
"""A variant; and how the name of a preset ends that is compared with another preset's baseline."""


HINTED = "openvino-bf16"
"""A backend: OpenVINO's decoder by its own hint; what it does in bfloat16 is left to it."""
_FLOAT32 = ("float32", "plain")  # what these are compared with: of operations, and of networks


@dataclass(frozen=True)
class Row:
    """One figure or several of one thing that was measured; None where a field does not apply.

    Attributes
    ----------
    section
        ``macs``, ``inference``, ``bfloat16``, ``int8``, ``sparse``, ``training``,
        ``volume`` or ``preview``.
    part
        ``total``, or a part of the work.
    preset, variant
        Name of the sizes; ``scd``, the ``dense`` baseline without completion, ``monai-unetr``, or
        ``monai-inferer``: MONAI's sliding windows with the same network as ``scd``.
    backend
        What computed.
    keep_ratio
        Per stage, in (0, 1]; of ``sparse``, the share of the tokens that hold something.
    seconds, spread
        Median, and half the range between the quartiles.
    gmacs
        Billions of multiply-accumulate operations.
    efficiency
        ``gmacs / (seconds * gemm_gmac_s)``: 1 is as fast as a large product of matrices.
    peak_mb
        Peak growth of the process's memory in 10⁶ bytes, weights not included.
    shape, windows
        Of a volume: voxels, and windows that were run.
    agreement
        Share of voxels that have the same label as by the first of those that took turns.
    """

    section: str
    part: str
    preset: str | None = None
    variant: str | None = None
    backend: str | None = None
    keep_ratio: float | None = None
    seconds: float | None = None
    spread: float | None = None
    gmacs: float | None = None
    efficiency: float | None = None
    peak_mb: float | None = None
    shape: tuple[int, int, int] | None = None
    windows: int | None = None
    agreement: float | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What was measured, without the figures."""
        return (
            *(self.section, self.preset, self.variant, self.backend),
            *(self.keep_ratio, self.shape, self.part),
        )

    def timed(self, seconds: Sequence[float]) -> Row:
        """Return the row with the median and spread of these repeats."""
        return replace(self, seconds=median(seconds), spread=half_quartile_range(seconds))

    def with_efficiency(self, gemm_gmac_s: float) -> Row:
        """Return the row with its efficiency, where it has both seconds and GMACs."""
        if not self.seconds or not self.gmacs:
            return self
        return replace(self, efficiency=self.gmacs / (self.seconds * gemm_gmac_s))


@dataclass(frozen=True)
class Report:
    """One run of the benchmark.

    Attributes
    ----------
    machine
        ``cpu``, ``cores``, ``threads``, ``torch``, ``os`` and the like; never its name.
    gemm_gmac_s
        Billions of multiply-accumulates per second of a product of two 2048 x 2048 float32
        matrices: the median of those that took turns with what was measured.
    rows
        In order of measurement.
    """

    machine: dict[str, str | int | float | None]
    gemm_gmac_s: float
    rows: tuple[Row, ...]

    def to_json(self) -> str:
        """Write the report as JSON."""
        content: dict[str, Any] = {
            "machine": self.machine,
            "gemm_gmac_s": self.gemm_gmac_s,
            "rows": [vars(row) for row in self.rows],
        }
        return json.dumps(content, indent=1, ensure_ascii=False)

    def section(self, name: str) -> tuple[Row, ...]:
        """Rows of one section."""
        return tuple(row for row in self.rows if row.section == name)


def read_report(path: Path) -> Report:
    """Read a report that `Report.to_json` wrote.

    Raises
    ------
    ValueError
        The file cannot be read or is no report; one plain line says why.
    """
    try:
        return TypeAdapter(Report).validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except ValidationError as error:
        wrong = error.errors()[0]
        said = ": ".join([*map(str, wrong["loc"]), wrong["msg"]])
        raise ValueError(f"{path}: not a report of tokensparse bench --json ({said})") from error


@dataclass(frozen=True)
class Change:
    """A row of a new run by the same row of an old one; None where either lacks the figure.

    Attributes
    ----------
    row
        The new one.
    time
        New seconds by old ones, each first multiplied by its run's ``gemm_gmac_s``: a machine
        that was slower throughout does not count.
    gmacs, memory
        New by old.
    """

    row: Row
    time: float | None
    gmacs: float | None
    memory: float | None


def compare(new: Report, old: Report) -> list[Change]:
    """Set every row of a new run beside the same row of an old one, where that has it."""
    before = {row.key: row for row in old.rows}
    faster = new.gemm_gmac_s / old.gemm_gmac_s
    changes = []
    for row, was in ((row, before[row.key]) for row in new.rows if row.key in before):
        time = _by(row.seconds, was.seconds)
        changes.append(
            Change(
                row,
                None if time is None else time * faster,
                _by(row.gmacs, was.gmacs),
                _by(row.peak_mb, was.peak_mb),
            )
        )
    return changes


def by_dense(rows: Iterable[Row], row: Row) -> tuple[float | None, float | None]:
    """Return time and GMACs of a row by those of the dense baseline of its family.

    Both as shares, the same backend's; None where the baseline was not measured.
    """
    family = (row.preset or "").removesuffix(LITE)
    wanted = (row.section, family, DENSE, row.backend, row.part)
    for dense in rows:
        if (dense.section, dense.preset, dense.variant, dense.backend, dense.part) == wanted:
            return _by(row.seconds, dense.seconds), _by(row.gmacs, dense.gmacs)
    return None, None


def by_float32(rows: Iterable[Row], row: Row) -> float | None:
    """Return the time of float32, by torch alone, by that of a row of ``bfloat16`` or ``int8``."""
    wanted = (row.section, row.preset, row.variant, row.keep_ratio)
    for other in rows:
        same = (other.section, other.preset, other.variant, other.keep_ratio) == wanted
        if same and other.backend in _FLOAT32:
            return _by(other.seconds, row.seconds)
    return None


def by_monai(rows: Iterable[Row], row: Row) -> tuple[float | None, float | None]:
    """Return MONAI's time by that of a volume's row, and the row's memory by MONAI's."""
    wanted = (row.section, row.preset, MONAI_INFERER, row.backend, row.shape, row.part)
    for other in rows:
        same = (other.section, other.preset, other.variant, other.backend, other.shape, other.part)
        if same == wanted:
            return _by(other.seconds, row.seconds), _by(row.peak_mb, other.peak_mb)
    return None, None


def growth(rows: Iterable[Row], row: Row) -> float | None:
    """Return a volume's seconds per window by those of the first one measured of its kind."""
    for other in rows:
        same = (other.section, other.preset, other.variant, other.backend, other.part)
        if same == (row.section, row.preset, row.variant, row.backend, row.part):
            return _by(_per_window(row), _per_window(other))
    return None


def _per_window(row: Row) -> float | None:
    return row.seconds / row.windows if row.seconds and row.windows else None


def by_full(rows: Iterable[Row], row: Row) -> float | None:
    """Return the time of a row of ``sparse`` by that of a volume all of whose tokens hold some."""
    for other in rows:
        if (other.preset, other.variant, other.keep_ratio) == (row.preset, row.variant, 1.0):
            return _by(row.seconds, other.seconds)
    return None


def half_quartile_range(values: Sequence[float]) -> float:
    """Half the distance between the quartiles; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    first, _, third = quantiles(values, n=4, method="inclusive")
    return (third - first) / 2


def _by(new: float | None, old: float | None) -> float | None:
    return new / old if new is not None and old else None
