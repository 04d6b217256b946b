"""What a keep ratio buys, said beside the slider: time, and agreement with keep ratio 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_tokensparse.inspecting.sweep import Sweep
    from napari_tokensparse.segmenting.autoratio import Trial
    from napari_tokensparse.segmenting.estimating.estimate import Estimate
    from napari_tokensparse.segmenting.preview import Preview
    from napari_tokensparse.widgets.controls import KeepRatioSlider
    from napari_tokensparse.widgets.results import Results, ShownResult
    from napari_tokensparse.widgets.segment.autoratio import AutoRatio
    from napari_tokensparse.widgets.segment.estimate import EstimateLabel

_SAME = 0.005  # of two keep ratios that are written with two digits


class Gains:
    """Gathers what is known of keep ratios, and says what of it belongs to the slider's value.

    Parameters
    ----------
    slider
        Shows it.
    """

    def __init__(self, slider: KeepRatioSlider) -> None:
        self._slider = slider
        self._time = ""
        self._in_view: dict[float, float] = {}
        self._swept: tuple[ShownResult, Sweep] | None = None
        self._chosen: tuple[Any, str] = (None, "")

    def follow(self, auto: AutoRatio, estimate: EstimateLabel, results: Results) -> None:
        """Take what these find from now on, and follow the slider."""
        self._slider.valueChanged.connect(lambda _: self.show())
        auto.tried.connect(self.take_trial)
        estimate.estimated.connect(self.take_estimate)
        results.swept.connect(self.take_sweep)

    def choose(self, image: Any, model: str) -> None:
        """Take another image layer or model: agreement is not known of them."""
        if (image, model) != self._chosen:
            self._chosen = (image, model)
            self._in_view = {}
        self.show()

    def take_estimate(self, found: Estimate | None) -> None:
        """Take what a run would take, or nothing."""
        self._time = "" if found is None else found.time
        self.show()

    def take_preview(self, preview: Preview) -> None:
        """Take the window that is looked at; what was known of another one is forgotten."""
        self._in_view = {}
        if preview.agreement is not None and len(set(preview.keep_ratios)) == 1:
            self._in_view = {preview.keep_ratios[0]: preview.agreement}
        self.show()

    def take_trial(self, trial: Trial) -> None:
        """Take a keep ratio that was tried on the window in view."""
        self._in_view[trial.keep_ratio] = trial.agreement
        self.show()

    def take_sweep(self, swept: tuple[ShownResult, Sweep]) -> None:
        """Take the keep ratios of a whole volume."""
        self._swept = swept
        self.show()

    def show(self) -> None:
        """Say what is known of the slider's value."""
        said = [self._time, self._of_view(), self._of_sweep()]
        self._slider.say_gains("; ".join(filter(None, said)))

    def _of_view(self) -> str:
        found = _nearest(self._in_view, self._slider.value())
        return "" if found is None else f"agrees with 1.0 by {found:.1%} in the window in view"

    def _of_sweep(self) -> str:
        if self._swept is None:
            return ""
        result, sweep = self._swept
        if (result.image, sweep.model) != self._chosen:
            return ""
        dice = {p.keep_ratio: p.mean_dice for p in sweep.line("learned") if p.mean_dice is not None}
        found = _nearest(dice, self._slider.value())
        return "" if found is None else f"mean Dice with 1.0: {found:.3f} (sweep)"


def _nearest(known: dict[float, float], ratio: float) -> float | None:
    return next((value for each, value in known.items() if abs(each - ratio) < _SAME), None)
