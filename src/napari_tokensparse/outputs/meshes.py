"""Surfaces of segmented classes, and their files: binary STL and PLY.

Both formats are a header and fixed records, which numpy writes as they are; a library for meshes
would bring its own model of scenes for that.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage
from skimage.measure import marching_cubes
from skimage.transform import downscale_local_mean

from napari_tokensparse.common.files import written_whole
from napari_tokensparse.volumes.region import Box

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_tokensparse.model.info import Colour

MESH_SUFFIXES = (".ply", ".stl")
_SIGMA = 1.0
_REACH = 3
"""Voxels round a class's box: its smoothed mask ends within them."""
_FACE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_SAMPLES = 64
_DARK, _BRIGHTEST = 0.05, 0.995
"""Share of the contrast that air has at most, and the quantile of the brightest that counts."""
_HEADER_BYTES = 80
_SPACE = "SPACE=RAS"
"""What 3D Slicer looks for in a header; it takes a mesh for LPS otherwise."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A surface of triangles.

    Attributes
    ----------
    vertices
        ``(n, 3)``, in voxels ``(i, j, k)`` of the labels or, `in_mm`, (x, y, z) in RAS mm.
    faces
        ``(m, 3)`` vertices, counted from 0, against the clock as seen from outside.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]

    def in_mm(self, affine: NDArray[np.float64]) -> Mesh:
        """Put it into the patient: ``affine`` is (4, 4), voxel to RAS mm."""
        vertices = self.vertices @ affine[:3, :3].T + affine[:3, 3]
        mirrored = np.linalg.det(affine[:3, :3]) < 0
        return Mesh(vertices, self.faces[:, ::-1] if mirrored else self.faces)

    @property
    def enclosed(self) -> float:
        """Volume within, in the vertices' unit cubed; negative where faces look inwards."""
        first, second, third = self.vertices[self.faces].transpose(1, 0, 2)
        return float(np.einsum("ij,ij->", first, np.cross(second, third)) / 6)


def class_mesh(labels: NDArray[np.unsignedinteger], value: int, box: Box, *, step: int = 1) -> Mesh:
    """Make the surface of one class by marching cubes (Lewiner 2003) on its smoothed mask.

    The mask is smoothed by a Gaussian of one sample, so that the surface has no steps. It is cut at
    the level that encloses as many voxels as the class has: so a thin sheet stays, and volume too.

    Parameters
    ----------
    labels
        ``(i, j, k)``.
    value
        Of the class.
    box
        Of voxels, which holds all of the class.
    step
        Along each axis, this many voxels make one sample: a coarser surface is drawn faster.

    Returns
    -------
    Mesh
        In voxels of the labels.

    Raises
    ------
    ValueError
        The class has no voxels in the box.
    """
    mask = labels[box.slices] == value
    if not mask.any():
        raise ValueError(f"class {value}: has no voxel in {box}")
    shares = downscale_local_mean(mask.astype(np.float32), (step,) * 3)
    smooth = ndimage.gaussian_filter(np.pad(shares, _REACH), _SIGMA)
    count = max(1, round(float(shares.sum())))
    inside = np.partition(smooth.ravel(), -count - 1)[-count - 1 :]  # the last outside, and all
    level = (inside[0] + inside[1:].min()) / 2
    vertices, faces, *_ = marching_cubes(
        smooth, level, gradient_direction="ascent", allow_degenerate=False
    )
    middle = (step - 1) / 2  # of the voxels that make a sample
    places = (vertices.astype(np.float64) - _REACH) * step + middle + box.start
    return Mesh(places, faces.astype(np.int64))


def scan_mesh(array: NDArray[Any]) -> Mesh | None:
    """Make the surface of the largest thing in a scan that is brighter than air, without holes.

    It is coarse, of some 64 samples along the longest side: an outline to see other surfaces in.

    Parameters
    ----------
    array
        ``(i, j, k)``, one channel.

    Returns
    -------
    Mesh or None
        In voxels of the scan; None where nothing is brighter than the rest.
    """
    step = max(1, max(array.shape) // _SAMPLES)
    samples = np.asarray(array[::step, ::step, ::step], np.float32)
    low, high = (float(end) for end in np.quantile(samples, (0.0, _BRIGHTEST)))
    if not low < high:
        return None
    numbered, _ = ndimage.label(samples > low + _DARK * (high - low))
    largest = 1 + int(np.argmax(np.bincount(numbered.ravel())[1:]))
    mask = ndimage.binary_fill_holes(numbered == largest)
    mesh = class_mesh(mask.astype(np.uint8), 1, Box((0, 0, 0), mask.shape))
    return Mesh(mesh.vertices * step, mesh.faces)


def write_meshes(path: Path, meshes: Sequence[Mesh], colours: Sequence[Colour]) -> Path:
    """Write surfaces into one file, by its name: ``.ply``, with a colour for each, or ``.stl``.

    Parameters
    ----------
    path
        The file.
    meshes
        In RAS mm; both headers say so to 3D Slicer.
    colours
        One for each mesh.

    Raises
    ------
    ValueError
        The name ends in something else, or there is no mesh.
    OSError
        The file cannot be written.
    """
    if not meshes:
        raise ValueError(f"{path.name}: no surface to write; show a class that has voxels")
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise ValueError(f"{path.name}: end the name in {' or '.join(MESH_SUFFIXES)}")
    content = _ply(meshes, colours) if path.suffix.lower() == ".ply" else _stl(meshes)
    with written_whole(path) as unfinished:
        unfinished.write_bytes(content)
    return path


def _stl(meshes: Sequence[Mesh]) -> bytes:
    faces = np.zeros(sum(len(mesh.faces) for mesh in meshes), _FACE)
    corners = np.concatenate([mesh.vertices[mesh.faces] for mesh in meshes])
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    faces["normal"] = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    faces["corners"] = corners
    header = f"{_SPACE} napari-tokensparse, mm".encode().ljust(_HEADER_BYTES)
    return b"".join((header, struct.pack("<I", len(faces)), faces.tobytes()))


def _ply(meshes: Sequence[Mesh], colours: Sequence[Colour]) -> bytes:
    vertices = np.zeros(
        sum(len(mesh.vertices) for mesh in meshes), [("place", "<f4", 3), ("colour", "u1", 3)]
    )
    vertices["place"] = np.concatenate([mesh.vertices for mesh in meshes])
    lengths = [len(mesh.vertices) for mesh in meshes]
    vertices["colour"] = np.repeat(np.array(colours, np.uint8), lengths, axis=0)
    first = np.cumsum([0, *lengths[:-1]])
    corners = np.concatenate([mesh.faces + at for mesh, at in zip(meshes, first, strict=True)])
    faces = np.zeros(len(corners), [("corners", "u1"), ("vertices", "<i4", 3)])
    faces["corners"], faces["vertices"] = 3, corners
    header = [
        *("ply", "format binary_little_endian 1.0", f"comment {_SPACE} napari-tokensparse, mm"),
        f"element vertex {len(vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {channel}" for channel in ("red", "green", "blue")),
        f"element face {len(faces)}",
        *("property list uchar int vertex_indices", "end_header", ""),
    ]
    return "\n".join(header).encode() + vertices.tobytes() + faces.tobytes()
