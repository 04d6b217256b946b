"""The one place where it is decided how a network is run."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from napari_tokensparse.compute.backends.amp import amp_backend
from napari_tokensparse.compute.backends.base import INT8, OPENVINO, PLAIN, Backend, BackendError
from napari_tokensparse.compute.backends.bfloat16 import BFLOAT16, bfloat16_backend
from napari_tokensparse.compute.backends.compiled import COMPILE, compiled_backend
from napari_tokensparse.compute.backends.trial import trial_of
from napari_tokensparse.compute.precision import GAIN, PRECISIONS, bfloat16_gain

if TYPE_CHECKING:
    from napari_tokensparse.model.scd import SCD

AUTO = "auto"
BACKENDS = (AUTO, PLAIN, OPENVINO, INT8, BFLOAT16, COMPILE)
AGREEMENT = 0.999
"""Share of the sample's voxels whose labels must be those of float32."""
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


def check_precision(precision: str, backend: str = AUTO) -> None:
    """Check that a precision is known, and goes with the name of a backend.

    Raises
    ------
    BackendError
        It is not, or does not.
    """
    if precision not in PRECISIONS:
        raise BackendError(f"precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    own = {BFLOAT16: BFLOAT16, INT8: INT8, AUTO: precision}.get(backend, "float32")
    if precision not in ("auto", own):
        raise BackendError(f"precision {precision!r}: backend {backend!r} computes in {own}")


def make_backend(model: SCD, name: str = AUTO, precision: str = "auto") -> Backend:
    """Prepare a model to be run.

    Parameters
    ----------
    model
        In evaluation mode, on its device. It stays as it is.
    name
        One of `BACKENDS`: ``plain`` is torch as it comes; ``openvino`` decodes with OpenVINO, on a
        CPU; ``int8`` does so in whole numbers of 8 bits; ``bfloat16`` multiplies and convolves in
        it, on a CPU; ``compile`` is torch.compile; ``auto`` is the fastest that gives the labels
        of float32.
    precision
        ``float32`` or ``bfloat16`` binds ``auto`` to it; ``auto`` leaves it free.

    Raises
    ------
    BackendError
        There is no such backend, or it cannot be used here.
    """
    check_precision(precision, check_backend(name))
    if name == AUTO:
        return _chosen(model, precision)
    if name == COMPILE:
        return compiled_backend(model)
    if name == OPENVINO:
        _check_installed(OPENVINO, model, "openvino")
        from napari_tokensparse.compute.backends.openvino import openvino_backend

        return openvino_backend(model)
    if name == INT8:
        _check_installed(INT8, model, "openvino", "nncf")
        from napari_tokensparse.compute.backends.int8 import int8_backend

        return int8_backend(model)
    if name == BFLOAT16:
        _check_cpu(BFLOAT16, model)
        return bfloat16_backend(model)
    return Backend(PLAIN, model)


def _chosen(model: SCD, precision: str) -> Backend:
    device = _device_type(model)
    if device == "cuda" and precision != "float32":
        return amp_backend(model, torch.bfloat16 if precision == "bfloat16" else None)
    if precision == "bfloat16":
        return make_backend(model, BFLOAT16)
    exact = make_backend(model, fastest(model))
    if device != "cpu" or precision == "float32" or bfloat16_gain() < GAIN:
        return exact
    return _faster(model, exact, bfloat16_backend(model))


def _faster(model: SCD, exact: Backend, half: Backend) -> Backend:
    """Choose between float32 and bfloat16 by a trial, and say why where it is not the usual one."""
    trial = trial_of(model, exact, half)
    if trial.gain < GAIN:
        return exact
    said = (
        f"bfloat16 is {trial.gain:.1f} times as fast here as float32, and gives the same label at "
        f"{100 * trial.agreement:.2f} % of the sample's voxels"
    )
    if trial.agreement < AGREEMENT:
        needed = f"less than {100 * AGREEMENT:g} %: running in float32"
        return replace(exact, notes=(*exact.notes, f"{said}, {needed}"))
    return replace(half, notes=(f"{said}: running in bfloat16 (--precision float32 does not)",))


def fastest(model: SCD) -> str:
    """Choose the fastest backend of float32 that is installed.

    On a CPU of the x86 kind that is OpenVINO: a window takes four fifths to nine tenths of torch's
    time, at logits within 1e-4 of the largest one. It must have been installed, and the network be
    large enough for the seconds that converting it takes, once on a machine, to be worth while. On
    other processors it has not been measured. A network that crops its windows runs in torch: its
    graphs are each of one size of box, which takes seconds to convert and saves hundredths of one,
    a tenth of the decoder's time. torch.compile is never chosen: it takes a minute for
    each keep ratio, which one volume does not earn back.
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if _device_type(model) == "cpu" and x86 and _has("openvino") and _is_worth_converting(model):
        return OPENVINO
    return PLAIN


def _is_worth_converting(model: SCD) -> bool:
    if model.config.crop_value is not None:
        return False
    h, w, d = model.config.window
    return h * w * d * model.config.feature_size**2 >= WORTH_CONVERTING


def _check_cpu(name: str, model: SCD) -> None:
    device = _device_type(model)
    if device != "cpu":
        raise BackendError(f"backend {name!r}: runs on a CPU, not on device {device!r}")


def _check_installed(name: str, model: SCD, *packages: str) -> None:
    _check_cpu(name, model)
    if not all(map(_has, packages)):
        raise BackendError(
            f"backend {name!r}: not installed (pip install 'napari-tokensparse[{name}]'); "
            f"choose one of {', '.join(other for other in BACKENDS if other != name)}"
        )


def _has(package: str) -> bool:
    return find_spec(package) is not None


def _device_type(model: SCD) -> str:
    return next(model.parameters()).device.type
