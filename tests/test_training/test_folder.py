"""Which folders a run may be written to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from napari_tokensparse.common.ownership import OwnershipError, record
from napari_tokensparse.training.folder import check_model_folder
from napari_tokensparse.training.runconfig import RunConfig

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str = "mine") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_run_is_written_to_a_new_or_an_empty_folder_or_to_its_own(tmp_path: Path) -> None:
    check_model_folder(tmp_path / "new", resume=False)
    check_model_folder(tmp_path, resume=False)
    config = RunConfig(data=tmp_path / "data", output=tmp_path)
    config.write(tmp_path / "training/run.yaml")
    write(tmp_path / "training/events.jsonl", "")
    check_model_folder(tmp_path, resume=False)


@pytest.mark.parametrize(
    "name",
    ["docs/README.md", "configs/metadata.json", "notes.txt", "training", "training/run.yaml",
     "training/thesis.tex", "training/events.jsonl"],
)  # fmt: skip
def test_a_folder_that_holds_something_else_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    with pytest.raises(OwnershipError, match=f"holds something else .*{name[:4]}"):
        check_model_folder(tmp_path, resume=False)
    assert path.read_text() == "mine"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OwnershipError, match="model: is a file; name a folder"):
        check_model_folder(write(tmp_path / "model"), resume=False)


def test_a_card_that_was_changed_by_hand_is_not_written_anew_on_a_resume(tmp_path: Path) -> None:
    card = write(tmp_path / "docs/README.md", "# model")
    check_model_folder(tmp_path, resume=True)  # of a run that noted nothing
    (tmp_path / "training").mkdir()
    record(tmp_path / "training", [card])
    check_model_folder(tmp_path, resume=True)
    card.write_text("# model\nTested on our own scans.")
    with pytest.raises(OwnershipError, match=r"docs/README.md: was changed by hand"):
        check_model_folder(tmp_path, resume=True)
