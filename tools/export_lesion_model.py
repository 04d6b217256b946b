"""Write the bundled model folder ``ms-lesions`` from a training run.

Its card is written by ``tools/evaluate_lesion_model.py``, which measures it::

    python tools/export_lesion_model.py RUN --set-back 1 --least-confidence 0.9
    python tools/evaluate_lesion_model.py --people FOLDER --masks FOLDER

``--set-back A`` takes ``A log w`` from the biases of the last layer, w being the class weights of
the training's loss (logit adjustment, Menon et al., ICLR 2021): with such weights a network marks
too much. ``tools/choose_lesion_settings.py`` tries values of it and of the least confidence.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from bundled_training import weights_of
from napari_tokensparse.model.bundle import INTENDED_USE, METHOD, load_weights, write_bundle
from napari_tokensparse.model.expected import Expected
from napari_tokensparse.model.info import LabelClass, ModelInfo
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from train_lesion_model import CLASS_WEIGHTS, NAME

TARGET = Path(__file__).parents[1] / "src/napari_tokensparse/bundled" / NAME
PREPROCESSING = (
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    {
        "_target_": "Spacingd",
        "keys": "image",
        "pixdim": [1.0] * 3,
        "mode": "bilinear",
        "dtype": "float32",
    },
    {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "allow_smaller": True},
    {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True},
)
EXPECTS = Expected(modality=("MR",), spacing_mm=(0.2, 5.5), field_of_view_mm=(120, 230))
LESION = LabelClass(
    value=1,
    name="lesion",
    color=(230, 60, 60),
    codes=(
        ("49755003", "SCT", "Morphologically Abnormal Structure"),
        ("52988006", "SCT", "Lesion"),
    ),
)
METADATA = {
    "version": "0.1.0",
    "task": "Segmentation of white-matter lesions of multiple sclerosis in FLAIR MRI",
    "description": "Token-sparse network trained on patients' lesions in made-up FLAIR",
    "authors": "napari-tokensparse developers",
    "copyright": "Apache-2.0; data notices in LICENSE",
    "intended_use": f"White-matter lesions in FLAIR of the adult brain. {INTENDED_USE}",
    "data_source": "Masks of patients and label maps of people that LICENSE names, and FLAIR made "
    "up from them",
    "references": [
        METHOD,
        "Z. Lesjak et al. A novel public MR image dataset of multiple sclerosis patients with "
        "lesion segmentations based on multi-rater consensus. Neuroinformatics 16 (2018), "
        "doi:10.1007/s12021-017-9348-7",
        "B. Billot et al. SynthSeg: Segmentation of brain MRI scans of any contrast and resolution "
        "without retraining. Medical Image Analysis 86 (2023), doi:10.1016/j.media.2023.102789",
    ],
}


def info(least_confidence: float = 0.0) -> ModelInfo:
    """Say what the model takes and gives, and of which pieces it is sure enough."""
    return ModelInfo(
        name=NAME,
        channels=("FLAIR",),
        classes=(LESION,),
        preprocessing=PREPROCESSING,
        foreground_ml=(0, 2400),
        expects=EXPECTS,
        least_confidence=least_confidence,
        strip=True,
        strip_by="brain-structures",
    )


def trained(
    run: Path, set_back: float, average: Path | None = None, least_confidence: float = 0.0
) -> tuple[SCD, str]:
    """Make the network of a run, and say what it is.

    Parameters
    ----------
    run
        Folder of the run, or a ``model.safetensors``.
    set_back
        How many times the class weights' logarithm is taken from the last biases.
    average
        Another such, with whose weights the mean is taken.
    least_confidence
        How probable a piece must be somewhere to count.
    """
    weights, said = weights_of(run, average)
    model = SCD(preset(NAME), info(least_confidence)).eval()
    load_weights(model, weights, str(run))
    if set_back:
        said += f", biases set back by {set_back:g}"
        bias = model.decoder.out.conv.conv.bias
        bias.data -= set_back * torch.tensor(CLASS_WEIGHTS).log()
    return model.half().float(), said


def main() -> None:
    """Export the averaged weights, in half precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="its folder, or a model.safetensors")
    parser.add_argument("--target", type=Path, default=TARGET)
    parser.add_argument("--average", type=Path, metavar="RUN", help="take the mean with this one")
    parser.add_argument("--set-back", type=float, default=0.0, metavar="A", help="see above")
    parser.add_argument("--least-confidence", type=float, default=0.0, metavar="P")
    arguments = parser.parse_args()
    chosen = arguments.set_back, arguments.average, arguments.least_confidence
    model, said = trained(arguments.run, *chosen)
    metadata = {**METADATA, "changelog": {METADATA["version"]: said}}
    write_bundle(arguments.target, model, metadata, "", torch.float16)
    print(f"Wrote {arguments.target}; now run tools/evaluate_lesion_model.py")


if __name__ == "__main__":
    main()
