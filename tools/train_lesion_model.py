r"""Train the bundled model ``ms-lesions`` on patients' lesions in other people's brains.

Two folders are needed: masks of the "3D MR image database of Multiple Sclerosis patients with white
matter lesion segmentations" (Lesjak et al., Neuroinformatics 2018; CC BY) in MNI space,
``mask_01.nii.gz`` to ``mask_30.nii.gz``; and SynthSeg's label maps of people, which
``train_default_model.py`` takes too. No image is trained on: FLAIR is made up. Patient 07, whose
images there are, serves to choose; patients 27 and 28 and people 15 and 16 are left for the card.

The run is seeded and goes on from its checkpoint when called again. ``--minutes`` is the length of
the whole run, over whose last half the step size falls to 0; ``--stop-after`` ends one call of it.
``--box`` fills a cube of each window alone, which is quicker to learn from at first::

    pip install --group train-default-model
    python tools/train_lesion_model.py RUN --people P --masks M --minutes 70 \
        --box 64 --stop-after 47
    python tools/train_lesion_model.py RUN --people P --masks M --minutes 70

A run can begin with the weights of an earlier one. The bundled weights are of 92 minutes on one
core of a CPU with another decoder, and of six runs with this one, of 36 and 52 minutes in boxes
and of 12, 26, 27 and 105 in whole windows, as this; it began with the mean of the two before. None
of them saw likenesses of lesions or kept tokens by importance, as this script does now: 78 minutes
of that were not better by patient 07::

    python tools/train_lesion_model.py RUN2 --people P --masks M --minutes 105 \
        --lr 1e-3 --seed 1 --start-from RUN.safetensors

On a GPU the network runs there, and processes make the windows::

    python tools/train_lesion_model.py RUN --people P --masks M --minutes 20 --device cuda
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from brain.people import TRAINING as PEOPLE
from bundled_training import CONFIG as SHARED
from bundled_training import ON_GPU, make_parser, train_and_print
from lesions.hosts import read_host
from lesions.patients import TRAINING as PATIENTS
from lesions.patients import read_lesions
from lesions.synthesis import LesionConfig, LesionSampler
from napari_tokensparse.model.presets import preset

NAME = "ms-lesions"
CONFIG = SHARED.model_copy(update={"precision": "float32", "importance_share": 0.3})
SAMPLES = LesionConfig(likeness_share=0.6)
# Lesions are some thousandth of the voxels; Dice alone is slow to begin with.
CLASS_WEIGHTS = (1.0, 4.0)


def sampler_of(people: Path, masks: Path, box: int | None) -> LesionSampler:
    """Read the anatomies and masks to train on."""
    hosts = [read_host(people, number) for number in PEOPLE]
    patients = [read_lesions(masks, number) for number in PATIENTS]
    return LesionSampler(hosts, patients, preset(NAME).window, box, SAMPLES)


def main() -> None:
    """Train for some minutes, printing the mean loss now and then."""
    parser = make_parser(__doc__)
    parser.add_argument("--masks", type=Path, required=True, help="folder of the lesions' masks")
    parser.add_argument("--box", type=int, metavar="MM", help="edge of what is not empty")
    parser.add_argument("--workers", type=int, help="processes that make windows")
    parser.add_argument("--ema-decay", type=float, default=CONFIG.ema_decay, help="of the weights")
    arguments = parser.parse_args()
    on_gpu = arguments.device.startswith("cuda")
    workers = (os.cpu_count() or 1) - 1 if on_gpu else 0
    config = CONFIG.model_copy(
        update={
            **({**ON_GPU, "precision": "bfloat16"} if on_gpu else {}),
            "ema_decay": arguments.ema_decay,
            "workers": workers if arguments.workers is None else arguments.workers,
        }
    )
    sampler = sampler_of(arguments.people, arguments.masks, arguments.box)
    train_and_print(NAME, sampler, config, torch.tensor(CLASS_WEIGHTS), arguments)


if __name__ == "__main__":
    main()
