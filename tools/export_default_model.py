"""Write the bundled model folder ``brain-structures`` from a training run.

Its card is written by ``tools/evaluate_default_model.py``, which measures it::

    python tools/export_default_model.py RUN --people FOLDER
    python tools/evaluate_default_model.py --people FOLDER

``--average`` takes the mean of these weights and of earlier ones that the run began from or passed
by (model soups, Wortsman et al., ICML 2022). ``--set-back A`` takes ``A log w`` from the biases of
the last layer, w being the class weights of the training's loss (logit adjustment, Menon et al.,
ICLR 2021): with such weights a network finds small structures too large.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from brain.people import TRAINING
from brain.structures import STRUCTURES
from bundled_training import weights_of
from default_model_card import NAME, SPACING_MM, TARGET
from napari_tokensparse.model.anatomy import codes_of_name
from napari_tokensparse.model.bundle import INTENDED_USE, METHOD, load_weights, write_bundle
from napari_tokensparse.model.expected import Expected
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from train_default_model import CLASS_WEIGHT_POWER, frequency_weights, training_anatomies

PREPROCESSING = (
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    # Half the model's voxel size, then the mean of eight: a voxel shows all that it covers.
    {
        "_target_": "Spacingd",
        "keys": "image",
        "pixdim": [SPACING_MM / 2] * 3,
        "mode": "bilinear",
        "dtype": "float32",
    },
    {"_target_": "DivisiblePadd", "keys": "image", "k": 2, "mode": "edge"},
    {"_target_": "Zoomd", "keys": "image", "zoom": 0.5, "mode": "area", "keep_size": False},
    {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "allow_smaller": True},
    {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True},
)
# A brain without its skull: adults' are 150 to 190 mm long, and lie turned; pieces are not what
# it was trained on. It saw slices of up to 6 mm.
EXPECTS = Expected(modality=("MR",), spacing_mm=(0.2, 6.5), field_of_view_mm=(120, 230))
METADATA = {
    "version": "0.2.0",
    "changelog": {"0.2.0": "tokens of 12 mm, many people"},
    "task": "Segmentation of 27 brain structures in MRI of any contrast",
    "description": "Token-sparse network trained on synthetic contrasts of people's label maps",
    "authors": "napari-tokensparse developers",
    "copyright": "Apache-2.0; data notices in LICENSE",
    "intended_use": f"27 structures of the adult brain in MRI. {INTENDED_USE}",
    "data_source": "Label maps and T1-weighted averages that LICENSE names, and contrasts made up "
    "from them",
    "references": [
        METHOD,
        "B. Billot et al. SynthSeg: Segmentation of brain MRI scans of any contrast and resolution "
        "without retraining. Medical Image Analysis 86 (2023), doi:10.1016/j.media.2023.102789",
    ],
}


def info() -> ModelInfo:
    """Say what the model takes and gives."""
    classes = (
        LabelClass(value=int(s.id), name=s.name, color=s.rgb, codes=codes_of_name(s.name))
        for s in STRUCTURES
    )
    return ModelInfo(
        name=NAME,
        channels=("MRI of any contrast",),
        classes=tuple(classes),
        preprocessing=PREPROCESSING,
        foreground_ml=(0, 2400),
        expects=EXPECTS,
        sharpen=True,
        strip=True,
    )


def main() -> None:
    """Export the averaged weights, in half precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="its folder, or a model.safetensors")
    parser.add_argument("--target", type=Path, default=TARGET)
    parser.add_argument("--average", type=Path, metavar="RUN", help="take the mean with this one")
    parser.add_argument("--set-back", type=float, default=0.0, metavar="A", help="0 to 1")
    parser.add_argument("--people", type=Path, help="folder of the label maps, for --set-back")
    arguments = parser.parse_args()
    weights, said = weights_of(arguments.run, arguments.average)
    model = SCD(preset(NAME), info()).eval()
    load_weights(model, weights, str(arguments.run))
    if arguments.set_back:
        said += f", biases set back by {arguments.set_back:g}"
        if arguments.people is None:
            parser.error("--set-back needs the class weights: give --people FOLDER")
        anatomies = training_anatomies(arguments.people, TRAINING, "cpu")
        bias = model.decoder.out.conv.conv.bias
        bias.data -= arguments.set_back * frequency_weights(anatomies, CLASS_WEIGHT_POWER).log()
    metadata = {**METADATA, "changelog": {METADATA["version"]: said}}
    write_bundle(arguments.target, model.half().float(), metadata, "", torch.float16)
    print(f"Wrote {arguments.target}; now run tools/evaluate_default_model.py")


if __name__ == "__main__":
    main()
