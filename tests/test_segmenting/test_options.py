"""What is asked for, as a command line that asks for it."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from napari_tokensparse.commands.options import asked_options
from napari_tokensparse.model.folder import bundled_models_folder, describe_folder
from napari_tokensparse.segmenting.options import Options, command_line, options_for
from napari_tokensparse.volumes.region import Box
from napari_tokensparse.volumes.volume import Volume

MODEL = describe_folder(bundled_models_folder() / "brain-structures", hashed=False)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("hf://lab/brain@v1", "hf://lab/brain@v1"),  # or nobody could ask for the same
        ("/home/Jane Doe/brain", "brain"),
        ("brain-structures", "brain-structures"),
    ],
)
def test_a_model_is_named_by_its_address_and_never_by_its_path(given: str, named: str) -> None:
    nothing = dict.fromkeys(("ablate", "keep_ratio", "sharpen", "regions", "table", "tokens"))
    options = asked_options({**nothing, "model": given}, MODEL)
    assert options.model == named
    said = command_line(options, [("", "scan.nii.gz")], "out.nii.gz")
    assert f"--model {named}" in said


@pytest.mark.parametrize("name", ["a/b", "", "hf://", "hf://a", "hf://a/b/c", "hf://../a"])
def test_another_address_is_no_name(name: str) -> None:
    with pytest.raises(ValidationError, match="must be a name without a folder"):
        Options(model=name, keep_ratio=(0.5,))


def test_what_the_model_says_is_filled_in_once_and_cannot_be_changed() -> None:
    own = options_for(MODEL)
    assert (own.model, own.keep_ratio) == ("brain-structures", MODEL.config.keep_ratio)
    assert own.sharpen is MODEL.info.sharpen
    asked = options_for(MODEL, 0.3, sharpen=False, region=Box((1, 2, 3), (4, 5, 6)), seed=7)
    assert asked.keep_ratio == (0.3,) * MODEL.config.stages
    assert (asked.sharpen, asked.seed) == (False, 7)
    volume = Volume(np.zeros((1, 8, 8, 8)), np.eye(4), "scan")
    assert asked.box(volume) == Box((1, 2, 3), (4, 5, 6))
    assert own.box(volume) is None
    with pytest.raises(ValueError, match=r"keep ratio 1\.5: must be in"):
        options_for(MODEL, 1.5)
    with pytest.raises(ValidationError, match="frozen"):
        asked.seed = 8
