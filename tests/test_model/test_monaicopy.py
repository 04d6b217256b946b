"""A copy of a model folder as MONAI's own ``load``, ``run`` and workflows take it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from monai.bundle import ConfigWorkflow, load

from napari_tokensparse.model.bundle import monai_network
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import INFERENCE, METADATA, WEIGHTS, ModelError
from napari_tokensparse.model.monaicopy import CHECKPOINT, export_for_monai

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:FutureWarning:monai",
    "ignore:NvImgCodec:UserWarning",
    "ignore:parsing config_file:UserWarning",  # that a config of a stranger is code
)
IMAGE = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))


def test_monai_loads_the_copy_from_anywhere_and_computes_the_same(
    tmp_path: Path, write_nano: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_nano()
    copy = export_for_monai(folder, tmp_path / "bundles" / "nano")
    assert {p.name for p in (copy / "models").iterdir()} == {WEIGHTS.name, CHECKPOINT.name}
    monkeypatch.chdir("/")
    theirs = load("nano", bundle_dir=tmp_path / "bundles", workflow_type="inference", device="cpu")
    with torch.inference_mode():
        wanted = monai_network(str(folder))(IMAGE)
        assert torch.equal(theirs.eval()(IMAGE), wanted)
        workflow = ConfigWorkflow(
            config_file=str(copy / INFERENCE), workflow_type="inference", logging_file=False,
            bundle_root=str(copy), device="$torch.device('cpu')",
        )  # fmt: skip
        network = workflow.parser.get_parsed_content("network")
        assert torch.equal(network(IMAGE), wanted)
    ours = load_model(copy)  # a model folder as before
    assert ours.info == load_model(folder).info
    assert not (folder / CHECKPOINT).exists()


def test_a_copy_replaces_nothing(tmp_path: Path, write_nano: Callable[..., Path]) -> None:
    folder = write_nano()
    with pytest.raises(ModelError, match="is there already; name a folder that is not"):
        export_for_monai(folder, folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nano"]


def test_metadata_name_use_and_method_and_keep_what_the_writer_says(
    write_nano: Callable[..., Path],
) -> None:
    said = json.loads((write_nano() / METADATA).read_text("utf-8"))
    assert said["intended_use"] == "For research only, not for diagnosis"
    assert len(said["references"]) == 1
    assert "arXiv:2303.06522" in said["references"][0]
