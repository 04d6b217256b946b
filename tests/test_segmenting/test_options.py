"""What is asked for, as a command line that asks for it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from napari_tokensparse.commands.options import asked_options
from napari_tokensparse.model.folder import bundled_models_folder, describe_folder
from napari_tokensparse.segmenting.options import Options, command_line

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
