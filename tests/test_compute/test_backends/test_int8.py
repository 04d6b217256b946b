"""The decoder in int8: what it gives, what is kept of it, and when it is refused."""

import logging
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from napari_tokensparse.compute.backends import choice
from napari_tokensparse.compute.backends.base import Backend, BackendError
from napari_tokensparse.compute.backends.choice import check_precision, make_backend
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD, SCDOutput
from napari_tokensparse.outputs.receipts import versions

MakeModel = Callable[..., SCD]
DENSE = {"prune_after": (), "keep_ratio": (), "completion": "none", "decoder": "unetr-x8"}
NOTE = (
    r"the decoder computes in int8, which gives the label of float32 at (\d+\.\d) % of the voxels"
)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep graphs in a folder of these tests: a network of theirs is converted once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENSPARSE_CACHE", str(folder))
        yield folder / "int8"


@pytest.fixture
def int8(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module, which counts its calibrations, with nothing in memory."""
    if find_spec("nncf") is None:  # importing it here would start OpenVINO's telemetry
        pytest.skip("NNCF is for Linux here")
    from napari_tokensparse.compute.backends import graphs, int8

    module: Any = int8
    calibrate, module.calibrations = int8.calibration, 0

    def counted(*given: Any) -> Any:
        module.calibrations += 1
        return calibrate(*given)

    monkeypatch.setattr(int8, "calibration", counted)
    graphs._compiled.clear()
    graphs._failed.clear()
    yield module
    graphs._failed.clear()


def small(seed: int = 0, **changes: Any) -> SCD:
    """Make a network that is quick to convert, of random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SCD(preset("nano", **{"decoder": "linear", **changes})).eval()


def window(model: SCD) -> Tensor:
    return torch.randn(1, model.config.in_channels, *model.config.window)


def same_tokens(one: SCDOutput, other: SCDOutput) -> bool:
    ids = ((*out.trace.scores, *out.trace.pruned, out.trace.kept) for out in (one, other))
    return all(torch.equal(a, b) for a, b in zip(*ids, strict=True))


def off(output: SCDOutput, wanted: SCDOutput) -> float:
    """Return how far logits lie from those that are wanted, as a share of their size."""
    apart, size = (x.square().mean().sqrt() for x in (output.logits - wanted.logits, wanted.logits))
    return float(apart / size)


def said(backend: Backend) -> float:
    """Return the share of labels that a backend says are those of float32."""
    (note,) = backend.late_notes
    found = re.match(NOTE, note)
    assert found is not None, note
    return float(found[1]) / 100


@pytest.mark.parametrize(
    "changes", [{}, pytest.param(DENSE, marks=pytest.mark.deep)], ids=["pruned", "dense"]
)
def test_logits_are_near_those_of_float32_and_tokens_the_same(
    int8: Any, changes: dict[str, Any]
) -> None:
    model = small(**changes)
    image, backend = window(model), make_backend(model, "int8")
    assert (backend.name, backend.notes) == ("int8", ())
    for ratio in (1.0, 0.3):
        out, wanted = backend(image, ratio), Backend("plain", model)(image, ratio)
        assert same_tokens(out, wanted)
        assert 1e-4 < off(out, wanted) < 0.1
        same = (out.logits.argmax(dim=1) == wanted.logits.argmax(dim=1)).float().mean()
        assert float(same) > 0.93
        assert abs(float(same) - said(backend)) < 0.05
    assert int8.calibrations == 1


def test_a_graph_is_calibrated_once_and_found_again_with_its_agreement(
    int8: Any, cache: Path
) -> None:
    from napari_tokensparse.compute.backends import graphs

    model = small(seed=1)
    image, first = window(model), make_backend(model, "int8")
    wanted = first(image).logits
    graphs._compiled.clear()  # as in another process
    again = make_backend(small(seed=1), "int8")
    assert torch.equal(again(image).logits, wanted)
    assert said(again) == said(first)
    assert int8.calibrations == 1
    other = small(seed=1)
    with torch.no_grad():  # what it is calibrated on is another thing then
        next(other.encoder.parameters()).mul_(2)
    make_backend(other, "int8")
    assert int8.calibrations == 2


def test_a_damaged_file_is_made_anew(int8: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from napari_tokensparse.compute.backends import graphs

    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path))
    make_backend(small(seed=2), "int8")
    xml = next(tmp_path.glob("int8/*/graph.xml"))
    whole = xml.read_text()
    assert "agreement" in whole
    for number, content in enumerate((whole[:200], whole.replace("agreement", "a_g_ement")), 2):
        graphs._compiled.clear()
        xml.write_text(content)
        backend = make_backend(small(seed=2), "int8")
        assert (backend.name, int8.calibrations) == ("int8", number)
        assert said(backend) > 0.9
        assert "agreement" in xml.read_text()


@pytest.mark.deep
def test_cropped_windows_have_a_graph_for_each_size_of_box_calibrated_in_it(
    int8: Any, make_cropping: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "LEAST", 0.0)  # of random weights
    model = make_cropping()
    backend = make_backend(model, "int8")
    assert (backend.name, int8.calibrations, backend.late_notes) == ("int8", 0, [])
    for size in ((16, 12, 8), (8, 12, 8), (16, 12, 8)):
        image = torch.zeros(1, 1, *model.config.window)
        h, w, d = (slice(4, 4 + n) for n in size)
        image[..., h, w, d] = torch.randn(size) + 3
        out, wanted = backend(image, 0.5), Backend("plain", model)(image, 0.5)
        assert out.box == wanted.box and same_tokens(out, wanted)
        assert 1e-4 < off(out, wanted) < 0.25
    assert int8.calibrations == 2
    given, logits = int8.calibration(model, (3, 2, 1))
    assert {tuple(each[1].shape) for each in given} == {(1, 1, 12, 8, 4)}
    assert [len(each[0][0]) for each in given] == [6] * len(logits)


def test_a_model_that_loses_too_many_labels_runs_plainly_and_says_so(
    int8: Any, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "LEAST", 1.01)
    model = small(out_channels=4)
    model.info = make_model().info
    backend = make_backend(model, "int8")
    (note,) = backend.notes
    assert backend.name == "plain" and backend.network is model
    assert re.search(r"int8 gives the label of float32 at \d+\.\d % .*, less than 101 %", note)


def test_calibrating_says_nothing_and_leaves_logging_alone(
    int8: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    before = logging.getLoggerClass(), [*logging.getLogger().handlers]
    make_backend(small(seed=3), "int8")
    assert (logging.getLoggerClass(), [*logging.getLogger().handlers]) == before
    assert capfd.readouterr() == ("", "")
    import nncf

    assert type(nncf.telemetry.telemetry).__name__ == "MagicMock"  # NNCF's own stand-in


@pytest.mark.parametrize("lacking", ["nncf", "openvino"])
def test_it_is_refused_in_one_line_where_a_package_is_lacking(
    lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "_has", lambda package: package != lacking)
    with pytest.raises(BackendError, match=r"^backend 'int8': .*tokensparse\[int8\]'.*plain, open"):
        make_backend(small(), "int8")
    with pytest.raises(BackendError, match="precision 'float32': backend 'int8' computes in int8"):
        check_precision("float32", "int8")


def test_a_receipt_names_the_packages_that_made_its_labels(int8: Any) -> None:
    assert {"openvino", "nncf"} <= set(versions("int8"))
    assert "nncf" not in versions("openvino")


@pytest.mark.deep
def test_the_bundled_model_labels_its_sample_nearly_as_float32_does(int8: Any) -> None:
    from napari_tokensparse.compute.backends.trial import sample_window

    model = load_model("brain-structures")
    image, backend = sample_window(model), make_backend(model, "int8")
    for ratio in (1.0, 0.5, 0.25, 0.1):
        out, wanted = backend(image, ratio), Backend("plain", model)(image, ratio)
        assert same_tokens(out, wanted)
        assert (out.inside.argmax(dim=1) == wanted.inside.argmax(dim=1)).float().mean() > 0.98
    assert said(backend) > 0.98
