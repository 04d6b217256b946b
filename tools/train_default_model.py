"""Train the bundled model ``brain-structures`` on label maps of people.

The label maps are those of SynthSeg (``data/training_label_maps`` of its repository, Apache-2.0),
``seg_01.nii.gz`` to ``seg_16.nii.gz``; the average anatomy and its two T1s come from the packages
of the group ``train-default-model``. People 13 and 14 are left for choosing, 15 and 16 for the
card.

The run is seeded and goes on from its checkpoint when called again. ``--minutes`` is the length of
the whole run, over whose last half the step size falls to 0; ``--stop-after`` ends one call of it,
and ``--learn-first`` keeps most tokens in this one (they learn faster when few are missing)::

    pip install --group train-default-model
    python tools/train_default_model.py RUN --people P --minutes 600 --learn-first --stop-after 60
    python tools/train_default_model.py RUN --people P --minutes 600

On a GPU everything happens there, the samples too: nine minutes in bfloat16, a checkpoint a
minute::

    python tools/train_default_model.py RUN --people P --device cuda --minutes 9

``--start-from`` begins a run with the weights of an earlier one instead of random ones;
``--all-chosen`` trains on people 13 and 14 too, once there is nothing left to choose by them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from brain.looks import PeopleConfig, target_table
from brain.people import CHOOSING, TRAINING, Anatomy, People, anatomy_of, atlas_anatomy, read_person
from brain.structures import CLASS_COUNT
from bundled_training import CONFIG, ON_GPU, make_parser, train_and_print
from napari_tokensparse.model.presets import preset

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAME = "brain-structures"
LEARN_FIRST = {"keep_range": (0.3, 0.9)}
# Class weights are frequencies to this power. At -0.5 small structures come out too large.
CLASS_WEIGHT_POWER = -0.25


def training_anatomies(folder: Path, numbers: Iterable[int], device: str) -> list[Anatomy]:
    """Read the people to train on, and the average anatomy."""
    people = [folder / f"seg_{number:02d}.nii.gz" for number in numbers]
    missing = [path.name for path in people if not path.is_file()]
    if missing:
        raise SystemExit(f"{folder}: lacks {', '.join(missing)}; see the head of this file")
    return [*(anatomy_of(read_person(path)[0], device) for path in people), atlas_anatomy(device)]


def frequency_weights(anatomies: list[Anatomy], power: float) -> torch.Tensor:
    """Weights ``(K,)`` of the classes: their frequency in the brains' boxes to a power, mean 1."""
    counts = np.zeros(CLASS_COUNT)
    for anatomy in anatomies:
        classes = target_table()[anatomy.looks.cpu().long()]
        where = classes.nonzero()
        box = tuple(
            slice(int(a), int(b) + 1)
            for a, b in zip(where.amin(dim=0), where.amax(dim=0), strict=True)
        )
        counts += np.bincount(classes[box].flatten().numpy(), minlength=CLASS_COUNT)
    weights = np.maximum(counts, 1) ** power
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def main() -> None:
    """Train for some minutes, printing the mean loss now and then."""
    parser = make_parser(__doc__)
    parser.add_argument("--learn-first", action="store_true", help="keep most tokens")
    parser.add_argument("--head-share", type=float, default=0.0, help="of the samples, in [0, 1]")
    parser.add_argument(
        "--weighted-share", type=float, default=0.0, help="of the contrasts: T2, FLAIR, PD"
    )
    parser.add_argument("--inverted-share", type=float, default=0.0, help="of the T1 looks")
    parser.add_argument("--all-chosen", action="store_true", help="train on people 13, 14 too")
    arguments = parser.parse_args()
    on_gpu = arguments.device.startswith("cuda")
    learn_first = LEARN_FIRST if arguments.learn_first else {}
    config = CONFIG.model_copy(update={**learn_first, **(ON_GPU if on_gpu else {})})
    numbers = [*TRAINING, *(CHOOSING if arguments.all_chosen else ())]
    anatomies = training_anatomies(arguments.people, numbers, arguments.device)
    people = PeopleConfig(
        head_share=arguments.head_share,
        weighted_share=arguments.weighted_share,
        inverted_share=arguments.inverted_share,
    )
    sampler = People(anatomies, preset(NAME).window, people)
    weights = frequency_weights(anatomies, CLASS_WEIGHT_POWER)
    train_and_print(NAME, sampler, config, weights, arguments)


if __name__ == "__main__":
    main()
