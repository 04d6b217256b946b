"""The command ``tokensparse``: thin views on the engine. Heavy imports wait for their command."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_tokensparse._benchmarks import bench
from napari_tokensparse._evaluation import evaluate
from napari_tokensparse._inspection import audit, sweep
from napari_tokensparse._models import export_onnx, models
from napari_tokensparse._options import (
    DEFAULT_MODEL,
    DebugOption,
    KeepOption,
    plain_errors,
    ratios_of,
)
from napari_tokensparse._segmenting import report, run_shown, segment, write_tokens
from napari_tokensparse._training import train

app = typer.Typer(
    help="Segment medical volumes with token-sparse models. For research only, not for diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # else "[default: …]" in a help text is taken for markup
)


@app.command("import-checkpoint")
def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help="The authors' .pth.tar.")],
    config: Annotated[Path, typer.Option(help="Their config, YAML or JSON.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="MODEL_FOLDER",
            help="Where to write it. [default: among the user's models]",
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="What their command line changed."),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Turn a checkpoint of the authors' code into a model folder."""
    with plain_errors(debug):
        from napari_tokensparse.model.authors import import_checkpoint as imported

        typer.echo(f"Wrote {imported(checkpoint, config, output, overrides or [])}")


@app.command()
def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the results without a window.")
    ] = Path("demo"),
    headless: Annotated[
        bool, typer.Option("--headless", help="Open no window; write files instead.")
    ] = False,
    keep_ratio: KeepOption = None,
    debug: DebugOption = False,
) -> None:
    """Segment the sample brain and show labels and tokens in napari, or write them to files."""
    with plain_errors(debug):
        if headless or not _has_display():
            _demo_files(output, ratios_of(keep_ratio))
        else:
            _demo_window(ratios_of(keep_ratio))


app.command()(segment)
app.command()(bench)
app.command()(train)
app.command()(evaluate)
app.command()(sweep)
app.command()(audit)
app.command("export-onnx")(export_onnx)
app.add_typer(models, name="models")


def main() -> None:
    """Run the command line."""
    app()


def _demo_files(folder: Path, keep_ratio: tuple[float, ...] | float | None) -> None:
    from napari_tokensparse.data.samples import sample_path
    from napari_tokensparse.data.volume import read_volume, write_nifti
    from napari_tokensparse.engine.montage import save_montage
    from napari_tokensparse.model.checkpoints import load_model

    folder.mkdir(parents=True, exist_ok=True)
    volume, network = read_volume(sample_path()), load_model(DEFAULT_MODEL)
    result = run_shown(volume, network, keep_ratio, "auto")
    written = [write_nifti(folder / "labels.nii.gz", result.labels, volume)]
    written += write_tokens(folder, result, volume)
    if network.info is not None:
        save_montage(folder / "montage.png", volume, result, network.info)
        written.append(folder / "montage.png")
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


if __name__ == "__main__":
    main()
