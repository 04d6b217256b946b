"""The one place where it is decided how a network is run."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from typing import TYPE_CHECKING

from napari_tokensparse.compute.backends.amp import amp_backend
from napari_tokensparse.compute.backends.base import OPENVINO, PLAIN, Backend, BackendError
from napari_tokensparse.compute.backends.compiled import COMPILE, compiled_backend

if TYPE_CHECKING:
    from napari_tokensparse.model.scd import SCD

AUTO = "auto"
BACKENDS = (AUTO, PLAIN, OPENVINO, COMPILE)
WORTH_CONVERTING = 1e7
"""Voxels of a window times the squared width of the finest map, from which on a network is
converted: its finest convolution then has 0.3 GMACs."""


def check_backend(name: str) -> str:
    """Return the name of a backend as it is.

    Raises
    ------
    BackendError
        There is no such backend; the line lists those there are.
    """
    if name not in BACKENDS:
        raise BackendError(f"backend {name!r}: choose one of {', '.join(BACKENDS)}")
    return name


def make_backend(model: SCD, name: str = AUTO) -> Backend:
    """Prepare a model to be run.

    Parameters
    ----------
    model
        In evaluation mode, on its device. It stays as it is.
    name
        One of `BACKENDS`: ``plain`` is torch as it comes; ``openvino`` decodes with OpenVINO, on a
        CPU; ``compile`` is torch.compile; ``auto`` is chosen by `fastest`.

    Raises
    ------
    BackendError
        There is no such backend, or it cannot be used here.
    """
    chosen = fastest(model) if check_backend(name) == AUTO else name
    if chosen == COMPILE:
        return compiled_backend(model)
    if chosen == OPENVINO:
        _check_openvino(model)
        from napari_tokensparse.compute.backends.openvino import openvino_backend

        return openvino_backend(model)
    if name == AUTO and _device_type(model) == "cuda":
        return amp_backend(model)
    return Backend(PLAIN, model)


def fastest(model: SCD) -> str:
    """Choose the fastest backend that is installed and exact enough.

    On a CPU of the x86 kind that is OpenVINO: a window takes four fifths to nine tenths of torch's
    time, at logits within 1e-4 of the largest one. It must have been installed, and the network be
    large enough for the seconds that converting it takes, once on a machine, to be worth while. On
    other processors it has not been measured. A network that crops its windows runs in torch: its
    graphs are each of one size of box, which takes seconds to convert and saves hundredths of one,
    a tenth of the decoder's time. torch.compile is never chosen: it takes a minute for
    each keep ratio, which one volume does not earn back. On a GPU ``plain`` means half precision,
    unless that gives other logits there than float32 (`amp_backend`).
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if _device_type(model) == "cpu" and x86 and _has_openvino() and _is_worth_converting(model):
        return OPENVINO
    return PLAIN


def _is_worth_converting(model: SCD) -> bool:
    if model.config.crop_value is not None:
        return False
    h, w, d = model.config.window
    return h * w * d * model.config.feature_size**2 >= WORTH_CONVERTING


def _check_openvino(model: SCD) -> None:
    device = _device_type(model)
    if device != "cpu":
        raise BackendError(f"backend {OPENVINO!r}: runs on a CPU, not on device {device!r}")
    if not _has_openvino():
        raise BackendError(
            f"backend {OPENVINO!r}: not installed (pip install 'napari-tokensparse[openvino]'); "
            f"choose one of {', '.join(name for name in BACKENDS if name != OPENVINO)}"
        )


def _has_openvino() -> bool:
    return find_spec("openvino") is not None


def _device_type(model: SCD) -> str:
    return next(model.parameters()).device.type
