"""A network as an ONNX file, at a fixed keep ratio: one window in, logits and token ids out.

The choice of tokens stays in the graph: how many are kept is fixed, which ones is not.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from napari_tokensparse.common.extras import lacking
from napari_tokensparse.common.files import written_whole
from napari_tokensparse.common.ownership import check_place
from napari_tokensparse.compute.backends.base import with_parts
from napari_tokensparse.compute.backends.exporting import plain_layer
from napari_tokensparse.compute.backends.onnxcrop import cropping_graph
from napari_tokensparse.model.ratios import keep_ratios

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from napari_tokensparse.model.scd import SCD


class OnnxError(ValueError):
    """A network that is not written as ONNX; one plain line says why."""


def check_onnx_path(path: Path) -> None:
    """Refuse what could not be written, before a network is loaded.

    Raises
    ------
    OnnxError
        The path does not end in .onnx, its folder is missing, or the extra ``onnx`` is.
    OwnershipError
        Its folder may not be written to.
    """
    if path.suffix.lower() != ".onnx":
        raise OnnxError(f"{path}: must end in .onnx")
    if not path.parent.is_dir():
        raise OnnxError(f"{path.parent}: no such folder; create it first")
    check_place(path.parent)
    if not (find_spec("onnx") and find_spec("onnxscript")):
        raise OnnxError(lacking("writing ONNX", "onnx", "onnx"))


def export_onnx(model: SCD, path: Path, keep_ratio: float | Sequence[float] | None = None) -> Path:
    """Write a network as one ONNX file.

    Parameters
    ----------
    model
        In evaluation mode; it stays as it is.
    path
        File to write, ending in .onnx.
    keep_ratio
        Share of live tokens that each stage keeps, in (0, 1]: one number or one per stage; the
        model's default if not given.

    Returns
    -------
    Path
        The file. Its input is ``image``, one preprocessed window ``(1, C, h, w, d)``; its outputs
        are ``logits`` ``(1, K, h, w, d)``, for each stage ``score_1`` … and the grid ids
        ``pruned_1`` …, and ``kept``, as in `TokenTrace`. Its metadata say what the channels and
        classes are, and how a scan is preprocessed. A network that crops its windows does so in
        the graph: how many scores and ids there are then depends on the window.

    Raises
    ------
    OnnxError, ValueError
        In one plain line: the path, the keep ratio or the network cannot be used.
    """
    check_onnx_path(path)
    if model.training:
        raise OnnxError("the network is in training mode: call its eval() first")
    ratios = keep_ratios(
        model.config.keep_ratio if keep_ratio is None else keep_ratio, model.config.stages
    )
    from onnx import helper, save

    graph = _graph(model, ratios)
    helper.set_model_props(graph, _metadata(model, ratios))
    with written_whole(path) as part:
        save(graph, part)
    return path


class _Window(nn.Module):
    """A network at fixed keep ratios, whose outputs are tensors."""

    def __init__(self, model: SCD, ratios: tuple[float, ...]) -> None:
        super().__init__()
        self.model, self.ratios = model, ratios

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return logits, scores and pruned ids of each stage, and the ids that are kept."""
        out = self.model(image, self.ratios or None)
        return (out.logits, *out.trace.scores, *out.trace.pruned, out.trace.kept)


def _graph(model: SCD, ratios: tuple[float, ...]) -> Any:
    """Translate a network."""
    stages = range(1, model.config.stages + 1)
    names = ["logits", *(f"{kind}_{n}" for kind in ("score", "pruned") for n in stages), "kept"]
    translations = {
        torch.ops.aten.sort.stable: _stable_sort(),
        torch.ops.aten.log_sigmoid.default: _log_sigmoid(),
    }
    make = _whole_graph if model.config.crop_value is None else cropping_graph
    with _quiet():
        try:
            return make(copy.deepcopy(model).cpu(), ratios, names, translations)
        except Exception as error:  # a decoder of the user's own may do anything
            raise OnnxError(f"the network cannot be written as ONNX ({_reason(error)})") from error


def _whole_graph(
    model: SCD,
    ratios: tuple[float, ...],
    names: Sequence[str],
    translations: Mapping[Any, Callable[..., Any]],
) -> Any:
    window = _Window(with_parts(model, plain_layer), ratios).eval().requires_grad_(False)
    program = torch.onnx.export(
        window,
        (torch.zeros(1, model.config.in_channels, *model.config.window),),
        dynamo=True,
        verbose=False,
        input_names=["image"],
        output_names=list(names),
        custom_translation_table=dict(translations),
    )
    assert program is not None
    return program.model_proto


def _stable_sort() -> Callable[..., Any]:
    """Return the sort that torch.onnx lacks: ONNX's TopK takes equal values lowest index first."""
    from onnxscript import opset18

    def stable_sort(
        values: Any, stable: bool | None = None, dim: int = -1, descending: bool = False
    ) -> Any:
        axis: Any = opset18.Constant(value_ints=[dim])
        length: Any = opset18.Gather(opset18.Shape(values), axis)
        return opset18.TopK(values, length, axis=dim, largest=int(descending), sorted=1)

    return stable_sort


def _log_sigmoid() -> Callable[..., Any]:
    """Return a log-sigmoid that keeps its digits: torch.onnx takes the logarithm of a sigmoid.

    That is 0 far below 0, so tokens of little importance would be alike.
    """
    from onnxscript import opset18

    def log_sigmoid(x: Any) -> Any:
        return opset18.Neg(opset18.Softplus(opset18.Neg(x)))

    return log_sigmoid


def _metadata(model: SCD, ratios: tuple[float, ...]) -> dict[str, str]:
    said: dict[str, Any] = {"keep_ratio": ratios, "crop_value": model.config.crop_value}
    if model.has_info:
        left_out = {"overlap", "blending", "foreground_ml", "expects"}
        said |= model.info.model_dump(mode="json", exclude=left_out)
        said["label_values"] = model.info.label_values
    return {f"tokensparse.{key}": json.dumps(value) for key, value in said.items()}


def _reason(error: BaseException) -> str:
    """Return the first line of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".splitlines()[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's reports on itself from the user."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
