"""What a decoder in int8 brings: the bundled model on its sample, and networks on noise."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from napari_tokensparse.benchmarks.bfloat16 import beside_plain, noise_window
from napari_tokensparse.benchmarks.inference import made_apart
from napari_tokensparse.benchmarks.networks import SCD_VARIANT, drawn
from napari_tokensparse.benchmarks.preview import DEFAULT_MODEL
from napari_tokensparse.benchmarks.report import TOTAL, Row
from napari_tokensparse.benchmarks.timing import Note
from napari_tokensparse.compute.backends.base import INT8, OPENVINO, PLAIN
from napari_tokensparse.compute.backends.trial import sample_window
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.presets import preset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_tokensparse.benchmarks.plan import Plan
    from napari_tokensparse.benchmarks.timing import Round

SECTION = "int8"
_PRESETS = (DEFAULT_MODEL, "btcv")


def time_int8(plan: Plan) -> Iterator[Round | Note | Row]:
    """Time networks in torch, by OpenVINO and by OpenVINO in int8.

    The bundled model at every keep ratio, others, of random weights, at the lowest.

    Yields
    ------
    Round, Note, Row
        A round as it begins; the rows when the rounds of one thing are over.
    """
    if not (find_spec("openvino") and find_spec("nncf")):
        yield Note("int8 is left out: pip install 'napari-tokensparse[int8]'")
        return
    for name in plan.presets_of(_PRESETS):
        trained = name == DEFAULT_MODEL
        model = load_model(name) if trained else drawn(preset(name)).eval()
        image = sample_window(model) if trained else noise_window(model.config)
        ways = {way: made_apart(model, way) for way in (PLAIN, OPENVINO, INT8)}
        for ratio in plan.keep_ratios if trained else (min(plan.keep_ratios),):
            row = Row(SECTION, TOTAL, name, SCD_VARIANT, keep_ratio=ratio)
            yield from beside_plain(row, ways, image, plan)
