"""The command ``demo``: the sample brain, in napari or as files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_tokensparse.commands.errors import plain_errors
from napari_tokensparse.commands.options import (
    DEFAULT_MODEL,
    DebugOption,
    KeepOption,
    OverwriteOption,
    ratios_of,
)
from napari_tokensparse.commands.shown import report, run_shown
from napari_tokensparse.outputs.tokens import token_file_names, write_tokens


def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the results without a window.")
    ] = Path("demo"),
    headless: Annotated[
        bool, typer.Option("--headless", help="Open no window; write files instead.")
    ] = False,
    keep_ratio: KeepOption = None,
    overwrite: OverwriteOption = False,
    debug: DebugOption = False,
) -> None:
    """Segment the sample brain and show labels and tokens in napari, or write them to files."""
    with plain_errors(debug):
        if headless or not _has_display():
            _demo_files(output, ratios_of(keep_ratio), overwrite)
        else:
            _demo_window(ratios_of(keep_ratio))


def _demo_files(
    folder: Path, keep_ratio: tuple[float, ...] | float | None, overwrite: bool
) -> None:
    from napari_tokensparse.common.ownership import check_results, record
    from napari_tokensparse.model.checkpoints import load_model
    from napari_tokensparse.outputs.montage import save_montage
    from napari_tokensparse.segmenting.options import options_for
    from napari_tokensparse.volumes.reading import read_volume
    from napari_tokensparse.volumes.samples import sample_path
    from napari_tokensparse.volumes.volume import write_nifti

    network = load_model(DEFAULT_MODEL)
    names = ("labels.nii.gz", "montage.png", *token_file_names(network.config.stages))
    labels, picture, *_ = check_results(folder, names, (), overwrite=overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    volume = read_volume(sample_path())
    result = run_shown(volume, network, options_for(network, keep_ratio))
    written = [write_nifti(labels, result.labels, volume)]
    written += write_tokens(folder, result, volume)
    save_montage(picture, volume, result, network.info)
    written.append(picture)
    record(folder, written)
    report(result, volume, written)


def _demo_window(keep_ratio: tuple[float, ...] | float | None) -> None:
    if isinstance(keep_ratio, tuple):
        raise ValueError("the window's slider sets one keep ratio: give one, or use --headless")
    try:
        import napari
    except ImportError as error:
        raise ValueError(
            "napari is not installed: pip install 'napari-tokensparse[all]', or use --headless"
        ) from error
    viewer = napari.Viewer(title="napari-tokensparse demo")
    viewer.open_sample("napari-tokensparse", "mni-brain")
    _, widget = viewer.window.add_plugin_dock_widget("napari-tokensparse", "Segment")
    if keep_ratio is not None:
        widget.keep_ratio.setValue(keep_ratio)
    widget.button.click()
    napari.run()


def _has_display() -> bool:
    """Whether a window can be opened: always assumed on Windows and macOS."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
