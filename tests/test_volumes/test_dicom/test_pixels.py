"""Compressed pixels: decoded, or refused with the name of the compression and where to get it."""

from __future__ import annotations

import gdcm
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import get_decoder
from pydicom.uid import MPEG2MPML, HTJ2KLossless, JPEGLosslessSV1

from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import VolumeError

PIXELS = np.random.default_rng(1).integers(0, 4000, (7, 16, 12)).astype(np.uint16)


def compress(path) -> None:
    """Write a file again with its pixels as JPEG Lossless, as many archives keep them."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def test_jpeg_lossless_is_decoded_bit_for_bit(dicoms, tmp_path):
    for path in dicoms["write_series"](tmp_path / "mr", PIXELS):
        compress(path)
        assert dcmread(path).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    assert np.array_equal(read_volume(tmp_path / "mr").array[0], PIXELS.transpose(2, 1, 0))


def test_without_its_codec_the_compression_and_the_fix_are_named(dicoms, tmp_path, monkeypatch):
    paths = dicoms["write_series"](tmp_path / "mr", PIXELS)
    for path in paths:
        compress(path)
    decoder = get_decoder(JPEGLosslessSV1)  # pydicom looks for codecs once, when it is imported
    monkeypatch.setattr(decoder, "_available", {})
    monkeypatch.setattr(decoder, "_unavailable", {"gdcm": ("gdcm>=3.0.10",)})
    with pytest.raises(VolumeError) as caught:
        read_volume(tmp_path / "mr")
    assert str(caught.value) == (
        f"{paths[0].name}: reading pixels compressed as JPEG Lossless, Non-Hierarchical, "
        "First-Order Prediction (Process 14 [Selection Value 1]) needs python-gdcm: pip install "
        "'napari-tokensparse[dicom]', or decompress it"
    )


@pytest.mark.parametrize(
    ("way", "line"),
    [
        (HTJ2KLossless, r"as High-Throughput JPEG 2000 .* needs pylibjpeg>.*: pip install 'pylib"),
        (MPEG2MPML, r"its pixels are compressed as MPEG2 .*, which nothing decodes here; decompr"),
    ],
)
def test_so_is_what_other_packages_decode_or_none(dicoms, tmp_path, way, line):
    for path in dicoms["write_series"](tmp_path / "mr", PIXELS):
        image = dcmread(path)
        image.file_meta.TransferSyntaxUID = way
        image.PixelData = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
        image["PixelData"].is_undefined_length = True
        image.save_as(path)
    with pytest.raises(VolumeError, match=line):
        read_volume(tmp_path / "mr")
