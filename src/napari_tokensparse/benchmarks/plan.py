"""What a benchmark is asked to measure."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from napari_tokensparse.benchmarks.networks import KEEP_RATIOS
from napari_tokensparse.benchmarks.timing import MatrixRate
from napari_tokensparse.compute.backends.base import OPENVINO, PLAIN
from napari_tokensparse.compute.backends.choice import AUTO, check_backend
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.ratios import keep_ratios

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_tokensparse.volumes.windows import Shape

ROUNDS, QUICK_ROUNDS = 7, 3
NOISE_PATCH = 8
"""Edge of a token of the network that segments noise."""
QUICK_PRESETS = ("small", "brain-structures")
QUICK_KEEP_RATIOS = (0.1, 0.5, 1.0)


def usual_backends() -> tuple[str, ...]:
    """Return the backends that are compared: those that are installed and ready in seconds."""
    return (PLAIN, OPENVINO) if find_spec("openvino") else (PLAIN,)


@dataclass(frozen=True)
class Plan:
    """What to measure, and how often.

    Attributes
    ----------
    presets
        Names of sizes; what each section usually measures if not given.
    keep_ratios
        Per stage, each in (0, 1].
    backends
        How networks are run; `plain` and, where it is installed, `openvino` if not given.
    rounds
        Of each measurement, after one that warms up.
    shapes
        Voxels of the volumes of noise, multiples of a token's edge; those of the section if not
        given.
    quick
        Whether the sections leave out what takes long.
    rate
        The rate of the machine, measured beside everything else.

    Raises
    ------
    ValueError
        A preset or backend is unknown, a keep ratio is outside (0, 1], there is no round, or no
        volume has such a shape.
    """

    presets: tuple[str, ...] | None = None
    keep_ratios: tuple[float, ...] = KEEP_RATIOS
    backends: tuple[str, ...] = field(default_factory=usual_backends)
    rounds: int = ROUNDS
    quick: bool = False
    shapes: tuple[Shape, ...] | None = None
    rate: MatrixRate = field(default_factory=MatrixRate)

    def __post_init__(self) -> None:
        """Refuse what cannot be measured before anything is."""
        for name in self.presets or ():
            preset(name)
        for name in self.backends:
            _check_backend(name)
        for ratio in self.keep_ratios:
            keep_ratios(ratio, 1)
        if self.rounds < 1:
            raise ValueError(f"rounds {self.rounds}: must be at least 1")
        for shape in self.shapes or ():
            _check_shape(shape)

    def presets_of(self, usual: Sequence[str]) -> tuple[str, ...]:
        """Return the presets of a section that usually measures these."""
        if self.presets is not None:
            return self.presets
        return tuple(name for name in usual if not self.quick or name in QUICK_PRESETS)


def make_plan(
    presets: tuple[str, ...] | None = None,
    keep_ratios: tuple[float, ...] | None = None,
    backends: tuple[str, ...] | None = None,
    rounds: int | None = None,
    quick: bool = False,
    shapes: tuple[Shape, ...] | None = None,
) -> Plan:
    """Make a plan; what is not given depends on whether it shall be quick."""
    ratios = keep_ratios or (QUICK_KEEP_RATIOS if quick else KEEP_RATIOS)
    chosen = backends or usual_backends()
    repeats = rounds or (QUICK_ROUNDS if quick else ROUNDS)
    return Plan(presets, ratios, chosen, repeats, quick, shapes)


def _check_shape(shape: Shape) -> None:
    if any(n < 1 or n % NOISE_PATCH for n in shape):
        said = "x".join(map(str, shape))
        raise ValueError(f"voxels {said}: each must be a multiple of {NOISE_PATCH}")


def _check_backend(name: str) -> None:
    if check_backend(name) == AUTO:
        raise ValueError(f"backend {name!r}: name one of those that it chooses from")
