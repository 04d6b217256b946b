"""Surfaces of classes: true to the voxels, closed, and files that other readers understand."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_tokensparse.outputs.meshes import Mesh, class_mesh, scan_mesh, write_meshes
from napari_tokensparse.volumes.region import Box

if TYPE_CHECKING:
    from pathlib import Path

CENTRE, RADIUS = np.array([16.0, 20.0, 24.0]), 9.0
BOX = Box((7, 11, 15), (26, 30, 34))
AFFINE = np.array([[-1.0, 0, 0, 50], [0, 1, 0, -20], [0, 0, 2, 10], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def ball() -> np.ndarray:
    away = np.moveaxis(np.indices((32, 40, 48)), 0, -1) - CENTRE
    return np.where((away**2).sum(axis=-1) <= RADIUS**2, 7, 0).astype(np.uint8)


@pytest.mark.parametrize(("step", "share"), [(1, 0.03), (2, 0.06)])
def test_a_ball_keeps_its_place_and_volume(ball: np.ndarray, step: int, share: float) -> None:
    mesh = class_mesh(ball, 7, BOX, step=step)
    assert mesh.enclosed == pytest.approx((ball == 7).sum(), rel=share)
    np.testing.assert_allclose(mesh.vertices.mean(axis=0), CENTRE, atol=0.1)
    away = np.linalg.norm(mesh.vertices - CENTRE, axis=1)
    assert abs(away - RADIUS).max() < step
    edges = np.sort(np.concatenate([mesh.faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))]))
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()  # it is closed


def test_a_scan_has_one_closed_surface_round_its_largest_thing(ball: np.ndarray) -> None:
    scan = np.where(ball == 7, 900.0, -20.0) + np.random.default_rng(0).normal(0, 5, ball.shape)
    scan[14:19, 18:23, 22:27] = 0  # dark within it, as ventricles are
    scan[2:5, 2:5, 2:5] = 900  # something small beside it
    mesh = scan_mesh(scan)
    assert mesh is not None
    assert mesh.enclosed == pytest.approx((ball == 7).sum(), rel=0.03)
    np.testing.assert_allclose(mesh.vertices.mean(axis=0), CENTRE, atol=0.3)
    large = scan_mesh(np.kron(ball, np.ones((4, 4, 4), np.uint8)))  # fewer samples than voxels
    assert large is not None and len(large.vertices) < 4000
    np.testing.assert_allclose(np.ptp(large.vertices, axis=0), 4 * 2 * RADIUS, rtol=0.15)
    assert scan_mesh(np.zeros((8, 8, 8))) is None


def test_in_the_patient_outside_stays_outside(ball: np.ndarray) -> None:
    mesh = class_mesh(ball, 7, BOX)
    in_mm = mesh.in_mm(AFFINE)  # mirrored, and twice as tall
    assert in_mm.enclosed == pytest.approx(2 * mesh.enclosed)
    np.testing.assert_allclose(in_mm.vertices.mean(axis=0), (34, 0, 58), atol=0.2)


def test_a_sheet_of_one_voxel_does_not_vanish() -> None:
    sheet = np.zeros((20, 20, 20), np.uint8)
    sheet[10, 3:17, 3:17] = 1
    mesh = class_mesh(sheet, 1, Box((10, 3, 3), (11, 17, 17)))
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    np.testing.assert_allclose(low, (9.2, 2.5, 2.5), atol=0.8)
    np.testing.assert_allclose(high, (10.8, 16.5, 16.5), atol=0.8)


def test_a_class_without_voxels_is_refused(ball: np.ndarray) -> None:
    with pytest.raises(ValueError, match="class 3: has no voxel in"):
        class_mesh(ball, 3, BOX)


def test_stl_has_a_record_of_fifty_bytes_for_each_face(ball: np.ndarray, tmp_path: Path) -> None:
    mesh = class_mesh(ball, 7, BOX).in_mm(AFFINE)
    path = write_meshes(tmp_path / "ball.stl", [mesh, mesh], [(255, 0, 0), (0, 255, 0)])
    content = path.read_bytes()
    assert content.startswith(b"SPACE=RAS")
    (count,) = struct.unpack_from("<I", content, 80)
    assert (count, len(content)) == (2 * len(mesh.faces), 84 + 50 * count)
    for face in (0, count - 1):
        normal, *corners = np.array(struct.unpack_from("<12f", content, 84 + 50 * face)).reshape(
            4, 3
        )
        expected = mesh.vertices[mesh.faces[face % len(mesh.faces)]]
        np.testing.assert_allclose(corners, expected, rtol=1e-5)
        outwards = np.mean(corners, axis=0) - mesh.vertices.mean(axis=0)
        assert np.linalg.norm(normal) == pytest.approx(1, abs=1e-5)
        assert normal @ outwards > 0


def test_ply_has_places_colours_and_faces_as_its_header_says(
    ball: np.ndarray, tmp_path: Path
) -> None:
    mesh = class_mesh(ball, 7, BOX)
    moved = Mesh(mesh.vertices + 100, mesh.faces)
    path = write_meshes(tmp_path / "two.ply", [mesh, moved], [(255, 0, 0), (0, 255, 0)])
    header, _, body = path.read_bytes().partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    count, faces = 2 * len(mesh.vertices), 2 * len(mesh.faces)
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert f"element vertex {count}" in lines and f"element face {faces}" in lines
    vertex = np.dtype([("place", "<f4", 3), ("colour", "u1", 3)])
    vertices = np.frombuffer(body, vertex, count)
    np.testing.assert_allclose(vertices["place"][: len(mesh.vertices)], mesh.vertices, rtol=1e-5)
    assert vertices["colour"][[0, -1]].tolist() == [[255, 0, 0], [0, 255, 0]]
    face = np.dtype([("corners", "u1"), ("vertices", "<i4", 3)])
    rest = np.frombuffer(body[count * vertex.itemsize :], face)
    assert len(rest) == faces and (rest["corners"] == 3).all()
    assert rest["vertices"][-1].tolist() == (mesh.faces[-1] + len(mesh.vertices)).tolist()


def test_what_is_no_mesh_file_and_nothing_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a.obj: end the name in .ply or .stl"):
        write_meshes(
            tmp_path / "a.obj", [Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]))], [(1, 2, 3)]
        )
    with pytest.raises(ValueError, match="no surface to write"):
        write_meshes(tmp_path / "a.stl", [], [])
    assert list(tmp_path.iterdir()) == []
