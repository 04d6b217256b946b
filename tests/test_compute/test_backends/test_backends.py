"""How a network is run: OpenVINO, half precision, torch.compile, and the choice."""

import gc
import importlib
import logging
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from typer.testing import CliRunner

from napari_tokensparse.cli import app
from napari_tokensparse.compute.backends import amp, choice, compiled
from napari_tokensparse.compute.backends.amp import amp_backend
from napari_tokensparse.compute.backends.base import Backend, BackendError, with_parts
from napari_tokensparse.compute.backends.choice import fastest, make_backend
from napari_tokensparse.compute.backends.exporting import _Norm
from napari_tokensparse.model.crop import Grid
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD, SCDOutput
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.volumes.volume import Volume, write_nifti

MakeModel = Callable[..., SCD]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep graphs in a folder of these tests: a network of theirs is converted once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENSPARSE_CACHE", str(folder))
        yield folder / "openvino"


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the module of graphs, which counts what it converts, with nothing in its memory."""
    module = pytest.importorskip("napari_tokensparse.compute.backends.graphs", exc_type=ImportError)
    convert, module_any = module._converted, module
    module_any.conversions = 0

    def counted(model: SCD, grid: Grid) -> Any:
        module_any.conversions += 1
        return convert(model, grid)

    monkeypatch.setattr(module, "_converted", counted)
    module._compiled.clear()
    module._failed.clear()
    yield module
    module._failed.clear()  # another test may have a network of the same weights


def linear_model(seed: int = 0, decoder: str = "linear", own: nn.Module | None = None) -> SCD:
    """Make a network whose decoder is quick to convert."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SCD(preset("nano", decoder=decoder), decoder=own).eval()


def dense_model() -> SCD:
    return SCD(preset("nano", prune_after=(), keep_ratio=(), completion="none")).eval()


def windows(model: SCD, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, model.config.in_channels, *model.config.window)


def same_tokens(one: SCDOutput, other: SCDOutput) -> bool:
    ids = ((*out.trace.pruned, out.trace.kept) for out in (one, other))
    return all(torch.equal(a, b) for a, b in zip(*ids, strict=True))


def check_agreement(output: SCDOutput, wanted: SCDOutput) -> None:
    assert same_tokens(output, wanted)
    for one, other in zip(output.trace.scores, wanted.trace.scores, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    size = float(wanted.logits.abs().max())
    assert size > 0.1
    torch.testing.assert_close(output.logits, wanted.logits, rtol=0, atol=1e-4 * max(1.0, size))


def test_openvino_gives_the_tokens_and_logits_of_torch_at_every_keep_ratio(
    graphs: Any, make_model: MakeModel
) -> None:
    model = make_model()
    image, before = windows(model), make_backend(model, "plain")
    backend = make_backend(model, "openvino")
    assert (backend.name, backend.notes) == ("openvino", ())
    with torch.inference_mode():
        for ratio in (None, 0.1, 0.5, 1.0, (1.0, 0.5, 0.25)):
            check_agreement(backend(image, ratio), before(image, ratio))
    assert graphs.conversions == 1


def test_openvino_runs_controls_too(graphs: Any) -> None:
    model = linear_model()
    image, scores = windows(model), torch.rand(2, 64).log()
    backend = make_backend(model, "openvino")
    with torch.inference_mode():
        for how in ({"token_scores": scores}, {"skip_blocks": True}):
            check_agreement(backend(image, 0.5, **how), model(image, 0.5, **how))
        assert not same_tokens(backend(image, 0.5, token_scores=scores), model(image, 0.5))


def test_openvino_runs_the_dense_baseline_with_its_skips(graphs: Any) -> None:
    model = dense_model()
    image, backend = windows(model, 1), make_backend(model, "openvino")
    assert backend.name == "openvino"
    with torch.inference_mode():
        check_agreement(backend(image), model(image))


def test_what_was_given_out_is_not_overwritten_by_the_next_window(graphs: Any) -> None:
    model = linear_model()
    backend = make_backend(model, "openvino")
    first = backend(windows(model)).logits
    kept = first.clone()
    backend(windows(model))
    assert torch.equal(first, kept)


def test_a_backend_leaves_the_model_as_it_is(graphs: Any) -> None:
    model = linear_model()
    parts, image = list(model.modules()), windows(model)
    with torch.inference_mode():
        before = model(image).logits
        make_backend(model, "openvino")(image)
        assert torch.equal(model(image).logits, before)
    assert all(a is b for a, b in zip(parts, model.modules(), strict=True))


def test_a_graph_is_converted_once_and_found_again_in_memory_and_on_disk(
    graphs: Any, cache: Path
) -> None:
    model, image = linear_model(seed=1), windows(linear_model())
    with torch.inference_mode():
        wanted = make_backend(model, "openvino")(image).logits
        make_backend(linear_model(seed=1), "openvino")
        assert graphs.conversions == 1
        graphs._compiled.clear()  # as in another process
        logits = make_backend(linear_model(seed=1), "openvino")(image).logits
    assert graphs.conversions == 1
    assert torch.equal(logits, wanted)
    make_backend(linear_model(seed=2), "openvino")
    assert graphs.conversions == 2


def test_a_graph_serves_until_the_weights_change(
    graphs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("napari_tokensparse.compute.backends.openvino")
    looked_for, find = [], module.compiled_graph
    monkeypatch.setattr(
        module, "compiled_graph", lambda *given: looked_for.append(given) or find(*given)
    )
    model = linear_model(seed=8)
    image = windows(model)
    before = make_backend(model, "openvino")(image).logits
    assert torch.equal(make_backend(model, "openvino")(image).logits, before)
    assert len(looked_for) == 1
    model.load_state_dict(linear_model(seed=9).state_dict())
    with torch.inference_mode():
        check_agreement(make_backend(model, "openvino")(image), model(image))
    assert len(looked_for) == 2


def test_a_model_that_was_run_can_be_forgotten(graphs: Any) -> None:
    model = linear_model(seed=8)
    made, kept = weakref.ref(model), make_backend(model, "openvino")
    del model
    gc.collect()
    assert made() is None
    assert kept.name == "openvino"


def test_only_so_many_graphs_are_kept_the_latest_ones(
    graphs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path))
    monkeypatch.setattr(graphs, "IN_MEMORY", 1)
    monkeypatch.setattr(graphs, "ON_DISK", 1)
    for seed in (3, 4):
        make_backend(linear_model(seed=seed), "openvino")
    (key,) = graphs._compiled
    assert key[0] == graphs._key(linear_model(seed=4), (4, 4, 4), graphs.EXACT)
    assert [folder.name for folder in (tmp_path / "openvino").iterdir()] == [key[0]]


def test_half_a_graph_on_disk_is_made_anew(
    graphs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path))
    model = linear_model(seed=9)
    make_backend(model, "openvino")
    folder = tmp_path / "openvino" / graphs._key(model, (4, 4, 4), graphs.EXACT)
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    for number, (name, content) in enumerate(whole.items(), start=2):
        graphs._compiled.clear()
        (folder / name).write_bytes(content[: len(content) // 2])
        assert make_backend(linear_model(seed=9), "openvino").name == "openvino"
        assert graphs.conversions == number
        assert len((folder / name).read_bytes()) > len(content) * 0.9  # it is whole again


def test_a_cache_that_cannot_be_written_to_is_done_without(
    graphs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder can be made here")
    monkeypatch.setenv("TOKENSPARSE_CACHE", str(tmp_path / "file"))
    backend = make_backend(linear_model(seed=10), "openvino")
    assert (backend.name, backend.notes) == ("openvino", ())


def test_the_graph_runs_on_torchs_threads(graphs: Any) -> None:
    make_backend(linear_model(), "openvino")
    (graph,) = graphs._compiled.values()
    assert graph.compiled.get_property("INFERENCE_NUM_THREADS") == torch.get_num_threads()


class OwnDecoder(nn.Module):
    """Does what cannot be written down as a graph."""

    def forward(self, token_map: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        several = 2 if float(image.mean()) < 9.0 else 3
        return F.interpolate(token_map[:, :several], scale_factor=8)


def test_a_decoder_that_cannot_be_converted_runs_in_torch_with_a_note(graphs: Any) -> None:
    model = linear_model(decoder="custom", own=OwnDecoder())
    backends = [make_backend(model, "openvino") for _ in range(2)]
    assert graphs.conversions == 1
    for backend in backends:
        (note,) = backend.notes
        assert backend.name == "plain"
        assert note.startswith("OpenVINO cannot decode here, so torch does (")
        assert "\n" not in note
    image = windows(model)
    with torch.inference_mode():
        assert torch.equal(backends[0](image).logits, model(image).logits)


def test_a_graph_with_other_logits_than_torch_is_neither_used_nor_kept(
    graphs: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "decode", lambda request, inputs, logits: logits.fill_(1.0))
    model = linear_model(seed=5)
    backend = make_backend(model, "openvino")
    assert backend.name == "plain"
    assert "logits differ by" in backend.notes[0]
    assert not (cache / graphs._key(model, (4, 4, 4), graphs.EXACT)).exists()


def test_a_users_own_decoder_is_not_kept_on_disk(graphs: Any, cache: Path) -> None:
    own = linear_model().decoder
    model = linear_model(decoder="custom", own=own)
    assert make_backend(model, "openvino").name == "openvino"
    assert not (cache / graphs._key(model, (4, 4, 4), graphs.EXACT)).exists()


def test_converting_reports_to_nobody_and_leaves_logging_alone(
    graphs: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("OpenVINO's telemetry was started")

    monkeypatch.setattr("openvino.tools.ovc.convert_impl.init_ovc_telemetry", refuse)
    assert "telemetry_stub" in sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__
    root = logging.getLogger()
    before = [*root.handlers], [*root.filters]
    assert make_backend(linear_model(seed=6), "openvino").notes == ()
    assert graphs.conversions == 1
    assert ([*root.handlers], [*root.filters]) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("shape", [(96, 96, 16), (7, 11, 13)])
def test_norm_of_the_graph_is_instance_norm(shape: tuple[int, int, int]) -> None:
    x = 3.0 + torch.randn(1, 4, *shape, dtype=torch.float64)
    x[:, 3] = 2.0
    wanted = F.instance_norm(x, eps=1e-5)
    torch.testing.assert_close(_Norm(1e-5)(x.float()).double(), wanted, rtol=0, atol=2e-5)
    assert _Norm(1e-5)(torch.full((1, 1, *shape), 300.7)).isfinite().all()


def test_a_copy_with_other_parts_shares_the_weights() -> None:
    block = nn.Sequential(nn.Linear(2, 2), nn.ModuleDict({"a": nn.GELU(), "b": nn.Linear(2, 3)}))
    twin = with_parts(block, lambda part: nn.ReLU() if isinstance(part, nn.GELU) else None)
    assert isinstance(twin[1]["a"], nn.ReLU)
    assert isinstance(block[1]["a"], nn.GELU)
    assert twin[1]["b"].weight is block[1]["b"].weight


def test_auto_is_openvino_for_a_large_network_on_a_cpu_where_it_is_installed(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "_has", lambda package: True)
    monkeypatch.setattr("platform.machine", lambda: "AMD64")
    model = make_model()
    assert fastest(model) == "plain"  # converting takes longer than it saves
    assert make_backend(model).network is model
    monkeypatch.setattr(choice, "WORTH_CONVERTING", 1e5)
    assert fastest(model) == "openvino"
    assert fastest(model.to("meta")) == "plain"
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert fastest(make_model()) == "plain"
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(choice, "_has", lambda package: False)
    assert fastest(make_model()) == "plain"


def test_large_networks_are_worth_converting_unless_their_windows_are_cropped() -> None:
    with torch.device("meta"):
        models = {name: SCD(preset(name)) for name in ("nano", "brain-structures", "btcv-lite")}
    worth = {name: choice._is_worth_converting(model) for name, model in models.items()}
    assert worth == {"nano": False, "brain-structures": False, "btcv-lite": True}


def test_what_cannot_be_used_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear_model()
    with pytest.raises(BackendError, match=r"^backend 'tpu': choose one of auto, plain"):
        make_backend(model, "tpu")
    monkeypatch.setattr(choice, "_has", lambda package: False)
    with pytest.raises(BackendError, match=r"pip install 'napari-tokensparse\[openvino\]'.*plain"):
        make_backend(model, "openvino")
    monkeypatch.setattr(compiled, "has_compiler", lambda: False)
    with pytest.raises(BackendError, match=r"^backend 'compile': no C\+\+ compiler here \(c\+\+,"):
        make_backend(model, "compile")
    with pytest.raises(BackendError, match="runs on a CPU, not on device 'meta'"):
        make_backend(model.to("meta"), "openvino")


def test_compile_is_for_static_shapes_and_of_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compiling(function: Any, **options: Any) -> Any:
        calls.append(options)
        return function

    monkeypatch.setattr("torch.compile", compiling)
    monkeypatch.setattr(compiled, "has_compiler", lambda: True)
    model = linear_model()
    backend, image = make_backend(model, "compile"), windows(model)
    assert backend.name == "compile"
    assert calls == [{"dynamic": False}]
    assert model._compiled_call_impl is None
    assert backend.network._compiled_call_impl is not None
    with torch.inference_mode():
        check_agreement(backend(image, 0.5), model(image, 0.5))


@pytest.mark.deep
@pytest.mark.skipif(not compiled.has_compiler(), reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_compiled_network_gives_what_torch_gives(make_model: MakeModel) -> None:
    model = make_model()
    backend, image = make_backend(model, "compile"), windows(model)
    with torch.inference_mode():
        for ratio in (0.5, 0.25):
            check_agreement(backend(image, ratio), model(image, ratio))


def test_half_precision_leaves_scores_in_float32_and_logits_near(make_model: MakeModel) -> None:
    model = make_model()
    backend, image = amp_backend(model, torch.bfloat16), windows(model)
    assert (backend.name, backend.notes) == ("amp", ())
    with torch.inference_mode():
        out, exact = backend(image, 1.0), model(image, 1.0)
    assert {scores.dtype for scores in out.trace.scores} == {torch.float32}
    assert out.logits.dtype == torch.float32
    off = (out.logits - exact.logits).square().mean().sqrt()
    assert 1e-4 < off / exact.logits.square().mean().sqrt() < 0.05


def test_half_precision_is_tried_once_and_left_where_it_is_wrong(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, names = make_model(), []
    monkeypatch.setattr(amp, "_measured", lambda *_: names.append(1) or float("nan"))
    for _ in range(2):
        backend = amp_backend(model, torch.bfloat16)
        assert (backend.name, backend.autocast) == ("plain", None)
        (note,) = backend.notes
        assert note.startswith("bfloat16 on cpu gives other logits than float32 (by nan of")
    assert names == [1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_auto_on_a_gpu_agrees_with_float32(make_model: MakeModel) -> None:
    model = make_model().cuda()
    backend, image = make_backend(model), windows(model).cuda()
    assert backend.name == "amp" or backend.notes
    with torch.inference_mode():
        logits, wanted = backend(image, 1.0).logits, model(image, 1.0).logits
    assert (logits - wanted).square().mean().sqrt() < 0.05 * wanted.square().mean().sqrt()


def test_segment_runs_on_the_backend_that_it_is_told(graphs: Any, make_model: MakeModel) -> None:
    model, array = make_model(), np.random.default_rng(0).normal(size=(1, 40, 32, 32))
    volume = Volume(array.astype(np.float32), np.eye(4), "scan")
    plain, other = (segment(volume, model, 0.5, backend=name) for name in ("plain", "openvino"))
    assert (plain.stats.backend, other.stats.backend) == ("plain", "openvino")
    assert plain.stats.windows == 2
    assert (plain.labels == other.labels).mean() > 0.9999
    assert len(np.unique(plain.labels)) >= 3
    assert np.array_equal(plain.tokens.pruned_at, other.tokens.pruned_at)
    assert segment(volume, model).stats.backend == "plain"
    with pytest.raises(BackendError, match="backend 'fast'"):
        segment(volume, model, backend="fast")


def test_command_line_takes_a_backend_and_prints_what_it_could_not_do(
    graphs: Any, write_nano: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: SCD, grid: Grid) -> None:
        raise RuntimeError("no such operation\nin a graph")

    monkeypatch.setattr(graphs, "_converted", fail)
    scan = tmp_path / "scan.nii.gz"
    volume = Volume(np.random.default_rng(0).normal(size=(1, 32, 32, 32)), np.eye(4), "scan")
    write_nifti(scan, volume.array[0].astype(np.float32), volume)
    command = [
        "segment",
        str(scan),
        "-o",
        str(tmp_path / "out.nii.gz"),
        "--model",
        str(write_nano()),
    ]
    done = CliRunner().invoke(app, [*command, "--backend", "openvino"])
    assert done.exit_code == 0, done.output
    note = "Note: OpenVINO cannot decode here, so torch does (RuntimeError: no such operation)"
    assert note in done.output.splitlines()
    assert read_volume(tmp_path / "out.nii.gz").shape == (32, 32, 32)
    refused = CliRunner().invoke(app, [*command, "--backend", "fast"])
    assert refused.exit_code == 1
    names = "auto, plain, openvino, int8, bfloat16, compile"
    line = f"tokensparse: backend 'fast': choose one of {names}"
    assert refused.output.splitlines() == [line]


def test_a_backend_is_called_like_the_network() -> None:
    model = linear_model()
    image = windows(model)
    with torch.inference_mode():
        output = Backend("plain", model)(image, 0.5)
        assert torch.equal(output.logits, model(image, 0.5).logits)


def in_a_box(model: SCD, *size: int) -> torch.Tensor:
    """Air but for noise from voxel 4 on."""
    image = torch.zeros(1, model.config.in_channels, *model.config.window)
    h, w, d = (slice(4, 4 + n) for n in size)
    image[..., h, w, d] = torch.randn(size) + 3
    return image


@pytest.mark.parametrize("decoder", ["gated-pyramid", "coarse-to-fine"])
def test_openvino_decodes_cropped_windows_with_a_graph_for_each_size_of_box(
    graphs: Any, make_cropping: MakeModel, decoder: str
) -> None:
    model = make_cropping(decoder=decoder)
    backend = make_backend(model, "openvino")
    assert (backend.name, graphs.conversions) == ("openvino", 0)
    sizes = [(16, 12, 8), (8, 12, 8), (16, 12, 8)]
    with torch.inference_mode():
        for size in sizes:
            for ratio in (1.0, 0.3):
                image = in_a_box(model, *size)
                output = backend(image, ratio)
                assert output.box is not None
                assert output.box.size == tuple(n // 4 for n in size)
                check_agreement(output, model(image, ratio))
    assert graphs.conversions == 2
    assert backend.late_notes == []
    make_backend(model, "openvino")(in_a_box(model, *sizes[0]))
    assert graphs.conversions == 2


def test_beyond_so_many_sizes_of_boxes_torch_decodes(
    graphs: Any, make_cropping: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("napari_tokensparse.compute.backends.openvino")
    monkeypatch.setattr(module, "BOXES", 1)
    model = make_cropping()
    backend = make_backend(model, "openvino")
    with torch.inference_mode():
        for size in ((16, 12, 8), (12, 12, 8)):
            image = in_a_box(model, *size)
            check_agreement(backend(image), model(image))
    assert graphs.conversions <= 1  # the first is on disk already, where another test ran before


def test_a_box_that_cannot_be_converted_is_decoded_by_torch_and_noted(
    graphs: Any, make_cropping: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: SCD, grid: Grid) -> None:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(graphs, "_converted", fail)
    model = make_cropping((1, 2))
    backend, image = make_backend(model, "openvino"), in_a_box(model, 16, 12, 8)
    with torch.inference_mode():
        check_agreement(backend(image), model(image))
        backend(image)
    (note,) = backend.late_notes
    assert note.startswith("OpenVINO cannot decode here, so torch does (RuntimeError: no such")


@pytest.mark.deep
@pytest.mark.skipif(not compiled.has_compiler(), reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("decoder", ["gated-pyramid", "coarse-to-fine"])
def test_compiled_network_crops_its_windows(make_cropping: MakeModel, decoder: str) -> None:
    model = make_cropping(decoder=decoder)
    backend = make_backend(model, "compile")
    with torch.inference_mode():
        for size in ((16, 12, 8), (8, 12, 8)):
            image = in_a_box(model, *size)
            check_agreement(backend(image, 0.5), model(image, 0.5))
    whole = torch.randn(1, 1, *model.config.window)
    with torch.inference_mode():
        check_agreement(backend(whole, 0.5), model(whole, 0.5))


@pytest.mark.parametrize("decoder", ["gated-pyramid", "coarse-to-fine"])
def test_half_precision_of_a_cropped_window(make_cropping: MakeModel, decoder: str) -> None:
    model = make_cropping(decoder=decoder)
    backend, image = amp_backend(model, torch.bfloat16), in_a_box(model, 16, 12, 8)
    assert (backend.name, backend.notes) == ("amp", ())
    with torch.inference_mode():
        out, exact = backend(image, 1.0), model(image, 1.0)
    assert out.box == exact.box and out.inside.dtype == torch.float32
    off = (out.inside - exact.inside).square().mean().sqrt()
    assert 1e-5 < off / exact.inside.square().mean().sqrt() < 0.05
