"""Random anatomy: smooth maps from a sample's window to its source, from a keyed generator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from brain.synthesis import SynthesisConfig

Shape = tuple[int, int, int]
Axes = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

_REACH_MM = 144.0  # half the cube in which the deformation is defined


@dataclass(frozen=True)
class Warp:
    """Map from mm in the window to mm in the source, both from the respective centre.

    Attributes
    ----------
    matrix : Tensor, shape (3, 3)
        Linear part.
    knots : tuple of (spacing in mm, Tensor of shape (3, n, n, n))
        Cubic B-spline coefficients of the displacement, in mm, one entry per octave.
    mirror : bool
        Whether left and right are exchanged.
    """

    matrix: torch.Tensor
    knots: tuple[tuple[float, torch.Tensor], ...]
    mirror: bool

    def to(self, device: torch.device) -> Warp:
        """Return the same map on a device."""
        knots = tuple((spacing, values.to(device)) for spacing, values in self.knots)
        return Warp(self.matrix.to(device), knots, self.mirror)

    def source_mm(self, axes: Axes) -> torch.Tensor:
        """Evaluate the map on the grid that three axes span.

        Parameters
        ----------
        axes : three Tensors, shapes (h,), (w,), (d,)
            Coordinates in mm from the window's centre.

        Returns
        -------
        Tensor, shape (3, h, w, d)
            Millimetres from the source's centre.
        """
        x, y, z = axes[0][:, None, None], axes[1][:, None], axes[2]
        rows = [row[0] * x + (row[1] * y + row[2] * z) for row in self.matrix]
        points = torch.stack(rows)
        for spacing, coefficients in self.knots:
            points += _spline(coefficients, axes, spacing)
        if self.mirror:
            points[0].neg_()
        return points


def random_warp(config: SynthesisConfig, rng: torch.Generator) -> Warp:
    """Draw a deformation: rotation, scaling, shear, two octaves of smooth displacement, a mirror.

    Parameters
    ----------
    config : SynthesisConfig
        Ranges.
    rng : Generator
        Source of the randomness.

    Returns
    -------
    Warp
    """
    octaves = ((32.0, config.warp_mm), (14.0, config.fine_warp_mm))
    knots = tuple(
        (spacing, _knots(3, spacing, rng) * uniform(rng, 0, largest))
        for spacing, largest in octaves
    )
    mirror = bool(torch.randint(2, (), generator=rng))
    return Warp(_random_matrix(config, rng), knots, mirror)


def smooth_field(axes: Axes, knot_mm: float, rng: torch.Generator) -> torch.Tensor:
    """Draw a smooth random field of zero mean and unit variance.

    Parameters
    ----------
    axes : three Tensors, shapes (h,), (w,), (d,)
        Coordinates in mm.
    knot_mm : float
        Distance between the knots of its cubic B-spline.
    rng : Generator
        Source of the randomness.

    Returns
    -------
    Tensor, shape (h, w, d)
    """
    return _spline(_knots(1, knot_mm, rng), axes, knot_mm)[0]


def grid_axes(shape: Shape, spacing_mm: float) -> Axes:
    """Make the coordinates of a grid's voxels, in mm from its centre.

    Parameters
    ----------
    shape : tuple of int
        Voxels along each axis.
    spacing_mm : float
        Voxel size.

    Returns
    -------
    three Tensors, shapes (h,), (w,), (d,)
    """
    h, w, d = ((torch.arange(n) - (n - 1) / 2) * spacing_mm for n in shape)
    return h, w, d


def uniform(rng: torch.Generator, low: float, high: float, *shape: int) -> torch.Tensor:
    """Draw uniformly distributed numbers.

    Parameters
    ----------
    rng : Generator
        Source of the randomness.
    low, high : float
        Range.
    *shape : int
        Shape of the result, a scalar by default.

    Returns
    -------
    Tensor
    """
    return low + (high - low) * torch.rand(shape, generator=rng)


def _spline(coefficients: torch.Tensor, axes: Axes, spacing: float) -> torch.Tensor:
    """Evaluate cubic B-splines (c, n, n, n) on axes, unit variance for unit coefficients."""
    h, w, d = (_spline_weights(axis, coefficients.shape[-1], spacing) for axis in axes)
    field = torch.einsum("cxyz,dz->cxyd", coefficients, d)
    field = torch.einsum("cxyd,wy->cxwd", field, w)
    return torch.einsum("cxwd,hx->chwd", field, h)


def _spline_weights(axis: torch.Tensor, count: int, spacing: float) -> torch.Tensor:
    """Weights (len(axis), count) of the knots, each row of unit length."""
    knots = (torch.arange(count, device=axis.device) - (count - 1) / 2) * spacing
    t = ((axis[:, None] - knots) / spacing).abs()
    near, far = 2 / 3 - t.square() + t.pow(3) / 2, (2 - t).clamp(min=0).pow(3) / 6
    weights = torch.where(t < 1, near, far)
    length: torch.Tensor = torch.linalg.vector_norm(weights, dim=1, keepdim=True)
    return weights.div(length)


def _knots(channels: int, spacing: float, rng: torch.Generator) -> torch.Tensor:
    """Independent normal coefficients that cover the reach, shape (channels, n, n, n)."""
    count = 2 * math.ceil(_REACH_MM / spacing) + 3
    return torch.randn((channels, count, count, count), generator=rng)


def _random_matrix(config: SynthesisConfig, rng: torch.Generator) -> torch.Tensor:
    """Rotation · shear · scale, shape (3, 3)."""
    angles = uniform(rng, -1, 1, 3) * math.radians(config.rotation_deg)
    generators = torch.zeros(3, 3)
    for angle, (i, j) in zip(angles, ((1, 2), (2, 0), (0, 1)), strict=True):
        generators[i, j], generators[j, i] = -angle, angle
    shear = torch.eye(3) + torch.triu(uniform(rng, -1, 1, 3, 3), diagonal=1) * config.shear
    size = 1 + (uniform(rng, -1, 1) + uniform(rng, -1, 1, 3) / 2) * config.scale / 1.5
    rotation: torch.Tensor = torch.linalg.matrix_exp(generators)
    return rotation @ shear @ torch.diag(size)
