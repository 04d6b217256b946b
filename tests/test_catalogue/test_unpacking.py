"""Archives that a stranger made."""

from __future__ import annotations

import stat
import zipfile
from typing import TYPE_CHECKING

import pytest

from napari_tokensparse.catalogue.unpacking import ArchiveError, unpack

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def archive(folder: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry, content in entries:
            packed.writestr(entry, content)
    return path


def refusal(path: Path, target: Path, most: int = 2**20) -> str:
    with pytest.raises(ArchiveError) as refused:
        unpack(path, target, "a.zip", most)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_files_and_folders_are_unpacked(tmp_path: Path, target: Path) -> None:
    path = archive(tmp_path, ("m/", b""), ("m/a.txt", b"one"), ("m/deep/er/b.bin", bytes(3000)))
    unpack(path, target, "a.zip")
    files = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    assert files == {"m/a.txt", "m/deep/er/b.bin"}
    assert (target / "m/a.txt").read_bytes() == b"one"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/x", "lies outside the folder"),
        ("../x", "lies outside the folder"),
        ("m/../../x", "lies outside the folder"),
        ("C:/x", "has a name that not every system takes"),
        ("m\\..\\..\\x", "has a name that not every system takes"),
        ("m/a\x1b[2J", "has a name that not every system takes"),
    ],
)
def test_an_entry_that_would_lie_elsewhere_is_refused_before_any_is_written(
    tmp_path: Path, target: Path, name: str, why: str
) -> None:
    path = archive(tmp_path, ("m/good.txt", b"good"), (name, b"bad"))
    assert refusal(path, target) == f"a.zip: {name!r} {why}; nothing is unpacked"
    assert not list(target.iterdir())
    assert not (tmp_path / "x").exists()


def test_links_and_names_that_are_there_twice_are_refused(tmp_path: Path, target: Path) -> None:
    link = zipfile.ZipInfo("m/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "'m/link' is a link" in refusal(archive(tmp_path, (link, b"/etc")), target)
    twice = archive(tmp_path, ("m/A", b"1"), ("m/a", b"2"))
    assert "'m/a' is there twice" in refusal(twice, target)
    assert not list(target.iterdir())


def test_a_small_archive_of_much_is_refused(tmp_path: Path, target: Path) -> None:
    path = archive(tmp_path, ("zeros", bytes(2**20 + 1)))
    assert path.stat().st_size < 5000
    assert "would take 1048577 bytes; at most 1048576 are unpacked" in refusal(path, target)
    many = archive(tmp_path, *((f"{n}", b"") for n in range(1001)))
    assert "has 1001 files" in refusal(many, target)


def test_an_entry_that_says_less_than_it_holds_is_not_unpacked(
    tmp_path: Path, target: Path
) -> None:
    path = archive(tmp_path, ("zeros", bytes(2**19)))
    content = path.read_bytes().replace((2**19).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(content)
    assert "not a zip archive that can be read" in refusal(path, target)
    assert sum(p.stat().st_size for p in target.iterdir()) <= 10


def test_a_damaged_archive_is_named(tmp_path: Path, target: Path) -> None:
    path = archive(tmp_path, ("noise", bytes(range(256)) * 40))
    content = bytearray(path.read_bytes())
    content[60:70] = bytes(10)
    path.write_bytes(bytes(content))
    assert "not a zip archive that can be read" in refusal(path, target)
    path.write_bytes(b"no zip at all")
    assert "not a zip archive that can be read" in refusal(path, target)
