"""A decoder as an OpenVINO graph: converted once, kept on disk, compiled once in a process."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shutil
import tempfile
import warnings
from collections import OrderedDict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import monai
import torch

from napari_tokensparse import __version__
from napari_tokensparse.common.cache import cache_folder
from napari_tokensparse.compute.backends.exporting import ChannelsLast, for_export, takes_gate
from napari_tokensparse.compute.backends.ov import FrontEndManager, TorchFXPythonDecoder, openvino

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from napari_tokensparse.model.crop import Grid
    from napari_tokensparse.model.scd import SCD

IN_MEMORY, ON_DISK = 4, 16
"""Graphs that are kept; the one not used for longest goes."""
_FORM = 1  # of the graphs: to be counted up when `exporting` makes other ones
TOLERANCE = 1e-4
"""Most that a logit may differ from torch's, as a share of the largest one (at least 1)."""


class GraphError(Exception):
    """A decoder that OpenVINO cannot run."""


class Graph(NamedTuple):
    """A compiled graph.

    Attributes
    ----------
    compiled
        What OpenVINO runs.
    agreement
        Share of a sample's voxels that get the label of float32; None of a graph whose logits are
        those of float32.
    """

    compiled: Any
    agreement: float | None = None


@dataclass(frozen=True)
class Form:
    """What is made of a decoder that was converted.

    Attributes
    ----------
    name
        Of the part of the cache where such graphs lie.
    finish
        Makes, of the model, the box, the converted graph and a number of threads, the graph that
        is kept and the one that is run.
    rated
        Whether it gives other logits than torch, so that its agreement is kept with it, and it
        depends on all of the network.
    versions
        Versions of what makes it, beside those of torch and OpenVINO.
    """

    name: str
    finish: Callable[[SCD, Grid, Any, int], tuple[Any, Graph]]
    rated: bool = False
    versions: Callable[[], tuple[object, ...]] = tuple


_AGREEMENT = ["tokensparse", "agreement"]  # where a file has it
_compiled: OrderedDict[tuple[str, int], Graph] = OrderedDict()
_failed: dict[str, str] = {}
_lock = Lock()


def compiled_graph(model: SCD, grid: Grid, form: Form | None = None) -> Graph:
    """Return the compiled graph of a model's decoder for a box of tokens; `decode` runs it.

    The graph has nothing to do with keep ratios. It is found by the decoder's weights and layers,
    the versions of what made it and the processor; a decoder of the user's own, whose code may
    change without any of these, is not kept on disk. It runs on as many threads as torch.

    Parameters
    ----------
    model, grid
        The model, and the tokens along each axis of the box.
    form
        Of the graph; `EXACT` if not given.

    Raises
    ------
    GraphError
        The decoder cannot be converted, or the graph gives other logits than torch.
    """
    form = form or EXACT
    key, threads = _key(model, grid, form), torch.get_num_threads()
    with _lock:
        if key in _failed:
            raise GraphError(_failed[key])
        if (key, threads) not in _compiled:
            _compiled[key, threads] = _made(model, grid, form, key)
        _compiled.move_to_end((key, threads))
        while len(_compiled) > IN_MEMORY:
            _compiled.popitem(last=False)
        return _compiled[key, threads]


def hinted_graph(model: SCD, grid: Grid) -> Graph:
    """Compile a decoder with OpenVINO's hint to take bfloat16, to compare with; it is not kept."""
    return Graph(compile_graph(_converted(model, grid), torch.get_num_threads(), "bf16"))


def decode(request: Any, inputs: Sequence[Tensor], logits: Tensor) -> None:
    """Run a compiled graph's request on one window.

    Parameters
    ----------
    request
        Of the compiled graph.
    inputs
        Tokens ``(1, L, E)``, image ``(1, C, h, w, d)`` and what `ChannelsLast` takes beside them;
        float32.
    logits
        ``(1, h, w, d, K)``, contiguous, to write to.
    """
    request.set_output_tensor(openvino.Tensor(logits.numpy(), shared_memory=True))
    arrays = {n: x.contiguous().numpy() for n, x in enumerate(inputs)}
    request.infer(arrays, share_inputs=True)


def rate(graph: Any, agreement: float) -> None:
    """Write a graph's agreement into it."""
    graph.set_rt_info(repr(agreement), _AGREEMENT)


def _made(model: SCD, grid: Grid, form: Form, key: str) -> Graph:
    file, threads = cache_folder(form.name) / key / "graph.xml", torch.get_num_threads()
    kept = _kept(file, form, threads)
    if kept is not None:
        return kept
    try:
        graph, made = form.finish(model, grid, _converted(model, grid), threads)
    except Exception as error:  # a decoder of the user's own may do anything
        _failed[key] = f"{type(error).__name__}: {error}".splitlines()[0]
        raise GraphError(_failed[key]) from error
    if model.config.decoder != "custom":
        with suppress(OSError, RuntimeError):  # a cache that cannot be written to is none
            _write(graph, file.parent)
    return made


def _kept(file: Path, form: Form, threads: int) -> Graph | None:
    """Return a graph that is kept on disk; None where there is none, or half of one."""
    try:
        if not file.is_file():
            return None
        with suppress(OSError):  # a cache that is read-only has no order of use
            os.utime(file.parent)
        graph = _core().read_model(file)
        agreement = float(graph.get_rt_info(_AGREEMENT).value) if form.rated else None
        return Graph(compile_graph(graph, threads), agreement)
    except (OSError, RuntimeError, ValueError):
        shutil.rmtree(file.parent, ignore_errors=True)
        return None


def _checked(model: SCD, grid: Grid, graph: Any, threads: int) -> tuple[Any, Graph]:
    """Compile a graph, and compare it with torch on noise."""
    made = Graph(compile_graph(graph, threads))
    inputs = _examples(model, grid)
    decoded = torch.empty(1, *inputs[1].shape[2:], model.config.out_channels)
    decode(made.compiled.create_infer_request(), inputs, decoded)
    with torch.inference_mode():
        wanted = ChannelsLast(model.decoder, grid)(*inputs)
    off = float((decoded - wanted).abs().max() / wanted.abs().max().clamp(min=1.0))
    if not off <= TOLERANCE:  # so also for NaN
        raise GraphError(f"logits differ by {off:.2g} of the largest, more than {TOLERANCE:g}")
    return graph, made


EXACT = Form("openvino", _checked)
"""Gives torch's logits."""


def _examples(model: SCD, grid: Grid) -> tuple[Tensor, ...]:
    """Draw the inputs of `decode`."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    size = (n * config.patch_size for n in grid)
    image = torch.randn(1, config.in_channels, *size, generator=generator)
    length = math.prod(grid)
    tokens, *others = [
        torch.randn(1, length, config.embed_dim, generator=generator)
        for _ in range(1 + len(config.skip_after))
    ]
    if takes_gate(model):
        others = [torch.randint(2, (1, length, 1), generator=generator).float()]
    return tokens, image, *others


def _converted(model: SCD, grid: Grid) -> Any:
    """Convert a decoder by OpenVINO's parts: its own ``convert_model`` reports on its users."""
    inputs = _examples(model, grid)
    with quiet(), torch.no_grad():
        exported = torch.export.export(for_export(model, grid), inputs, strict=False)
        program = TorchFXPythonDecoder.from_exported_program(exported)
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(program))


def compile_graph(graph: Any, threads: int, precision: str = "f32") -> Any:
    """Compile a graph for as many threads."""
    return _core().compile_model(
        graph,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # torch's threads run on the same cores
        },
    )


def _write(graph: Any, folder: Path) -> None:
    """Write a graph at one stroke, and remove the oldest ones."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, ignore_cleanup_errors=True) as part:
        made = Path(part) / folder.name
        openvino.save_model(graph, made / "graph.xml", compress_to_fp16=False)
        if not folder.exists():
            made.rename(folder)
    kept = sorted(folder.parent.glob("*/graph.xml"), key=lambda file: file.parent.stat().st_mtime)
    for file in kept[:-ON_DISK]:
        shutil.rmtree(file.parent, ignore_errors=True)


def _key(model: SCD, grid: Grid, form: Form) -> str:
    versions = (_FORM, openvino.__version__, torch.__version__, monai.__version__, __version__)
    processor = _core().get_property("CPU", "FULL_DEVICE_NAME")
    made_for = (versions, processor, model.config, model.decoder, grid)
    digest = hashlib.sha256(repr(made_for).encode())
    counts: Any = model.decoder
    if form.rated:
        counts = model
        said = model.info.preprocessing if model.has_info else None
        digest.update(repr((form.name, form.versions(), said)).encode())
    if model.config.decoder == "custom":
        digest.update(str(id(model.decoder)).encode())
    for name, weights in counts.state_dict().items():
        digest.update(name.encode())
        digest.update(weights.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


@cache
def _core() -> Any:
    return openvino.Core()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the conversion says of torch's and its own insides."""
    silent, root = logging.NullHandler(), logging.getLogger()

    def is_other(record: logging.LogRecord) -> bool:
        return "openvino" not in record.pathname

    root.addHandler(silent)  # without any, the first message would set up logging for all
    root.addFilter(is_other)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(is_other)
        root.removeHandler(silent)
