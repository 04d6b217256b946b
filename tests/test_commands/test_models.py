"""The commands ``tokensparse models …``, with an index and a web server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import runpy
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from napari_tokensparse.catalogue.fetching import DownloadError
from napari_tokensparse.catalogue.models import read_index
from napari_tokensparse.cli import app
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.folder import CARD, METADATA, ModelError, bundled_models_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

_WEB = runpy.run_path(str(Path(__file__).parents[1] / "webserver.py"))
SERVING, NOBODY = _WEB["serving"], _WEB["nobody"]


@pytest.fixture
def server() -> Iterator[Any]:
    with SERVING() as running:
        yield running


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOKENSPARSE_MODELS", str(tmp_path / "mine"))
    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path / "mine"


def models(*arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["models", *arguments], input=answer)


def listed(*arguments: str) -> dict[str, dict[str, Any]]:
    run = models("--json", *arguments)
    assert run.exit_code == 0, run.stderr
    return {model["name"]: model for model in json.loads(run.stdout)["models"]}


def publish(server: Any, folder: Path, **changes: Any) -> str:
    """Pack a model folder, put it on the web beside an index of it, and return the index's URL."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in (f for f in folder.rglob("*") if f.is_file()):
            archive.write(file, file.relative_to(folder).as_posix())
    content = packed.getvalue()
    entry = {
        "name": folder.name,
        "url": server.url("/model.zip"),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "description": "From a lab\x1b[31m",
        "licence": "CC-BY-4.0",
    }
    server.files["/model.zip"] = content
    server.files["/index.json"] = json.dumps({"format": 1, "models": [entry | changes]}).encode()
    return str(server.url("/index.json"))


def test_a_model_of_an_index_is_listed_downloaded_shown_used_and_removed(
    server: Any, mine: Path, write_nano: Callable[..., Path]
) -> None:
    source = write_nano("lab-model")
    index = publish(server, source)
    offered = listed("--index", index)["lab-model"]
    assert offered["where"] == "downloadable"
    assert offered["place"] == server.url("/model.zip")
    assert offered["size"] == len(server.files["/model.zip"])
    assert (offered["says"], offered["licence"]) == ("From a lab[31m", "CC-BY-4.0")
    assert "lab-model" not in listed()

    run = models("download", "lab-modell", "--index", index)
    assert run.exit_code == 1
    assert "model 'lab-modell': not in" in run.stderr
    assert "did you mean lab-model?" in run.stderr
    run = models("download", "lab-model", "--index", index)
    assert run.exit_code == 0, run.stderr
    assert f"Wrote {mine / 'lab-model'}" in run.stdout

    here = listed("--index", index)["lab-model"]
    assert (here["where"], here["place"]) == ("user", str(mine / "lab-model"))
    assert (here["channels"], here["classes"]) == (["channel 0"], ["seven"])
    assert (here["window"], here["spacing"]) == ([32, 32, 32], [])
    assert here["keep_ratio"] == [0.5, 0.5, 0.5]
    table = models("--index", index).stdout
    assert "brain-structures" in table
    assert "64 × 80 × 64 at 3 × 3 × 3 mm" in table
    assert "lab-model" in table
    assert models("show", "lab-model").stdout == "# nano\n"
    assert load_model("lab-model").info.name == "lab-model"

    assert models("remove", "lab-model", answer="n\n").exit_code == 1
    assert (mine / "lab-model").is_dir()
    assert models("remove", "lab-model", answer="y\n").exit_code == 0
    assert not (mine / "lab-model").exists()


def test_without_a_network_what_is_here_is_listed_and_the_index_named(mine: Path) -> None:
    with NOBODY() as address:
        index = f"{address}/index.json"
        run = models("--index", index)
        assert run.exit_code == 0
        assert "brain-structures" in run.stdout
        assert run.stderr.startswith(f"Warning: {index}: cannot be reached")
        run = models("download", "lab-model", "--index", index)
        assert run.exit_code == 1
        assert run.stderr.startswith(f"tokensparse: {index}: cannot be reached")
        assert run.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_used_is_listed_with_the_reason(
    mine: Path, write_nano: Callable[..., Path]
) -> None:
    broken = write_nano("broken")
    (broken / METADATA).write_text("{}")
    mine.mkdir()
    broken.rename(mine / "broken")
    assert listed()["broken"]["problem"].startswith(f"{mine / 'broken' / METADATA}: ")
    assert "cannot be used" in models().stdout


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ("# Mine\n\nLesions in **stripped** FLAIR, of 1.5 T\nor more. Else\n", None),
        ("# Mine\nLesions in stripped\nFLAIR, of 1.5 T or more.\n\n- Data", None),
        ("# Mine\n", "Mine"),
        ("", ""),
    ],
)
def test_a_model_is_listed_with_the_first_sentence_of_its_card(
    mine: Path, write_nano: Callable[..., Path], card: str, said: str | None
) -> None:
    mine.mkdir()
    folder = write_nano("own").rename(mine / "own")
    (folder / CARD).write_text(card)
    wanted = "Lesions in stripped FLAIR, of 1.5 T or more." if said is None else said
    assert listed()["own"]["says"] == wanted


def test_a_card_cannot_steer_the_terminal(mine: Path, write_nano: Callable[..., Path]) -> None:
    write_nano("odd").rename(mine.with_name("odd-folder"))
    mine.mkdir()
    mine.with_name("odd-folder").rename(mine / "odd")
    (mine / "odd" / CARD).write_text("# Odd\n\n\x1b]0;title\x07[bold]text\n")
    assert models("show", "odd").stdout == "# Odd\n\n]0;title[bold]text\n"
    assert listed()["odd"]["says"] == "]0;title[bold]text"
    assert "]0;title[bold]text" in models().stdout


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[", "not an index of models"),
        ("{}", "format: Field required"),
        ('{"format": 2, "models": []}', "format: Input should be 1"),
        ('{"format": 1, "models": [{"name": "../x"}]}', "models.0.name"),
    ],
)
def test_a_file_that_is_no_index_is_named_with_the_reason(
    tmp_path: Path, content: str, why: str
) -> None:
    file = tmp_path / "index.json"
    file.write_text(content)
    with pytest.raises(DownloadError) as refused:
        read_index(str(file))
    assert str(refused.value).startswith(f"{file}: not an index of models (")
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_packages_own_index_is_valid_and_empty(mine: Path) -> None:
    bundled = {folder.name for folder in bundled_models_folder().iterdir() if folder.is_dir()}
    assert set(listed()) == bundled >= {"brain-structures"}
    run = models("download", "anything")
    assert run.exit_code == 1
    assert "model 'anything': not in" in run.stderr


def test_an_unknown_model_is_refused_with_similar_names() -> None:
    with pytest.raises(ModelError, match=r"; did you mean brain-structures\?$"):
        load_model("brain-structure")
    with pytest.raises(ModelError) as refused:
        load_model("liver")
    assert "did you mean" not in str(refused.value)


def test_export_onnx_refuses_a_path_before_it_loads_anything(tmp_path: Path) -> None:
    command = ["export-onnx", "none", "-o", str(tmp_path / "model.pt")]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 1
    assert run.stderr == f"tokensparse: {tmp_path / 'model.pt'}: must end in .onnx\n"
