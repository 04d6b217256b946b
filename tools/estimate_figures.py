"""Estimate runs of different settings, run them, and write down what came of it.

python tools/estimate_figures.py --figures docs/reliability

Each setting has a process of its own, which has run nothing before. Seconds are those of the
processor, on one thread: of a machine with nothing else to do. Memory is Linux' own high-water mark
of the process. Rates are measured once a model, as for a person, in a cache of this tool's own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_tokensparse.model.scd import SCD
    from napari_tokensparse.volumes.volume import Volume

CHILD, MEASURE, RUN = "--child", "measure", "run"


@dataclass(frozen=True)
class Setting:
    """A run: of which model, on which volume, how.

    Attributes
    ----------
    model
        ``brain-structures``, ``nano-ct`` (that of ``bench``) or a preset.
    volume
        ``sample``; ``half``, every second voxel of it; ``padded``, it in the middle of a larger
        one; or ``noise``.
    keep_ratio
        For each stage.
    region
        The part that is segmented, or nothing.
    backend
        How the network is run.
    """

    model: str
    volume: str
    keep_ratio: float
    region: str = ""
    backend: str = "plain"

    def __str__(self) -> str:
        """Say it in a few words."""
        what = f"{self.model}, {self.volume}, keep ratio {self.keep_ratio:g}, {self.backend}"
        return f"{what}, region {self.region}" if self.region else what


BRAIN = "brain-structures"
SETTINGS = (
    Setting(BRAIN, "sample", 1.0),
    Setting(BRAIN, "sample", 0.1),
    Setting(BRAIN, "sample", 0.5, backend="openvino"),
    Setting(BRAIN, "half", 0.5),
    Setting(BRAIN, "padded", 0.25),
    Setting(BRAIN, "padded", 0.25, region=":120,:120,:120"),
    Setting("nano", "half", 0.5),
    Setting("nano-ct", "noise", 0.1),
    Setting("small", "half", 0.25),
    Setting("small", "half", 1.0, region="30:70,30:80,30:60"),
    Setting("btcv-lite", "noise", 0.25),
)


def measured(figures: Path, settings: tuple[Setting, ...]) -> None:
    """Estimate and run every setting, and write all figures."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for number, setting in enumerate(SETTINGS):
            if setting not in settings:
                continue
            for part in (MEASURE, RUN):
                said = _apart(part, number, cache)
            print(f"{setting}: {said}", flush=True)
            rows.append({"setting": str(setting), **said})
            text = json.dumps({"runs": rows}, indent=1) + "\n"  # so far
            (figures / "estimate.json").write_text(text, "utf-8")


def _apart(part: str, number: int, cache: str) -> dict[str, Any]:
    command = [sys.executable, __file__, CHILD, part, str(number)]
    threads = {"OMP_NUM_THREADS": "1", "TOKENSPARSE_CACHE": cache}
    ran = subprocess.run(command, env={**os.environ, **threads}, stdout=subprocess.PIPE, check=True)
    said: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return said


def child(part: str, number: int) -> None:
    """Measure the machine for a setting's model; or estimate its run from that, and run it."""
    from napari_tokensparse.compute.memory import give_back
    from napari_tokensparse.segmenting.estimating.estimate import estimating
    from napari_tokensparse.segmenting.estimating.rates import calibrating, value_of
    from napari_tokensparse.segmenting.estimating.timing import Stopwatch
    from napari_tokensparse.segmenting.infer import segment_with
    from napari_tokensparse.segmenting.options import options_for
    from napari_tokensparse.volumes.region import parse_box

    setting = SETTINGS[number]
    model = _model(setting.model)
    if part == MEASURE:
        rates = value_of(calibrating(model, setting.backend, watch=Stopwatch(time.process_time)))
        print(rates.model_dump_json())
        return
    volume = _volume(setting.volume)
    region = parse_box(setting.region, volume.shape, volume.name) if setting.region else None
    asked: dict[str, Any] = {"region": region, "backend": setting.backend, "device": None}
    options = options_for(model, setting.keep_ratio, **asked)
    estimated = value_of(estimating(volume, model, options, Stopwatch(time.process_time)))
    give_back()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark falls to what is held now
    before, began = _memory_mb("VmRSS"), time.process_time()
    result = segment_with(volume, model, options)
    seconds = time.process_time() - began
    said = {
        "windows": [estimated.windows, result.stats.windows],
        "seconds": [round(estimated.seconds, 2), round(seconds, 2)],
        "mb": [round(estimated.room.peak_mb), round(_memory_mb("VmHWM") - before)],
    }
    print(json.dumps(said))


def _memory_mb(what: str) -> float:
    """Read what Linux says of this process's memory, in 10⁶ bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith(f"{what}:"))
    return 1024 * int(kib) / 1e6


def _model(name: str) -> SCD:
    from napari_tokensparse.benchmarks.apart import nano_network
    from napari_tokensparse.benchmarks.networks import drawn
    from napari_tokensparse.model.checkpoints import load_model
    from napari_tokensparse.model.info import LabelClass, ModelInfo
    from napari_tokensparse.model.presets import preset

    if name == BRAIN:
        return load_model(name)
    if name == "nano-ct":
        return nano_network()
    config = preset(name)
    classes = [LabelClass(value=n, name=f"{n}", color=(n, 0, 0)) for n in range(1, 256)]
    info = ModelInfo(
        name=name,
        channels=tuple(f"channel {n}" for n in range(config.in_channels)),
        classes=tuple(classes[: config.out_channels - 1]),
    )
    return drawn(config, info).eval()


def _volume(name: str) -> Volume:
    import numpy as np

    from napari_tokensparse.volumes.reading import read_volume
    from napari_tokensparse.volumes.samples import sample_path
    from napari_tokensparse.volumes.volume import Volume

    if name == "noise":
        grey = np.random.default_rng(0).integers(-175, 250, (160, 144, 192, 1), dtype=np.int16)
        return Volume(grey.T, np.eye(4), name)
    sample = read_volume(sample_path())
    if name == "sample":
        return sample
    if name == "half":
        coarser = sample.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
        return Volume(sample.array[:, ::2, ::2, ::2], coarser, name)
    larger = np.zeros([1, *(n + 120 for n in sample.shape)], sample.array.dtype, order="F")
    larger[:, 60:-60, 60:-60, 60:-60] = sample.array
    larger[:, :40, :40, :40] = sample.array[:, 80:120, 80:120, 80:120]
    return Volume(larger, sample.affine, name)


def main() -> None:
    """Read the command line."""
    if sys.argv[1:2] == [CHILD]:
        child(sys.argv[2], int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--figures", type=Path, required=True, help="folder for estimate.json")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of settings, from 0")
    options = parser.parse_args()
    chosen = range(len(SETTINGS)) if options.only is None else options.only
    measured(options.figures, tuple(SETTINGS[n] for n in chosen))


if __name__ == "__main__":
    main()
