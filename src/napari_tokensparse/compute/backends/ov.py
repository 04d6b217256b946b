"""OpenVINO and NNCF, which quantises its graphs, imported so that they tell nobody.

On import OpenVINO sends a message to its makers' statistics, and keeps a number of the user in the
home folder, unless its package for that cannot be imported; NNCF does so with every graph.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_TELEMETRY = "openvino_telemetry"


@contextmanager
def _without_telemetry() -> Iterator[None]:
    modules: dict[str, Any] = sys.modules
    before = {_TELEMETRY: modules[_TELEMETRY]} if _TELEMETRY in modules else {}
    modules[_TELEMETRY] = None  # what Python takes for a package that is not there
    try:
        yield
    finally:
        del modules[_TELEMETRY]
        modules.update(before)


with _without_telemetry():
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

__all__ = ["FrontEndManager", "TorchFXPythonDecoder", "import_nncf", "openvino"]


def import_nncf() -> Any:
    """Import NNCF, which takes seconds, and leave the class of loggers what it was."""
    loggers = logging.getLoggerClass()
    try:
        with _without_telemetry():
            import nncf
    finally:
        logging.setLoggerClass(loggers)
    return nncf
