"""What is known of a slider's value, said below it: time, tokens, agreement without pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject

if TYPE_CHECKING:
    from napari_tokensparse.inspecting.sweep import Sweep
    from napari_tokensparse.segmenting.autoratio import Trial
    from napari_tokensparse.segmenting.estimating.estimate import Estimate
    from napari_tokensparse.segmenting.preview import Preview
    from napari_tokensparse.widgets.pruning.sliders import ImportanceSlider, KeepRatioSlider
    from napari_tokensparse.widgets.results import Results, ShownResult
    from napari_tokensparse.widgets.segment.autoratio import AutoRatio
    from napari_tokensparse.widgets.segment.estimate import EstimateLabel

_SAME = 0.005  # of two keep ratios that are written with two digits
_FINE = 0.0005  # of two importances that are written with three
_LEAST_SHARE = 1e-3
NOT_KNOWN = "how many tokens that leaves is known once a preview or a run has said so"


class Gains(QObject):
    """Gathers what is known of keep ratios, and says what of it belongs to the slider's value.

    Parameters
    ----------
    slider
        Shows it.
    """

    def __init__(self, slider: KeepRatioSlider) -> None:
        super().__init__(slider)
        self._slider = slider
        self._time = ""
        self._in_view: dict[float, float] = {}
        self._swept: tuple[ShownResult, Sweep] | None = None
        self._chosen: tuple[Any, str] = (None, "")

    def follow(self, auto: AutoRatio, estimate: EstimateLabel, results: Results) -> None:
        """Take what these find from now on, and follow the slider."""
        self._slider.valueChanged.connect(self.show)
        auto.measured.connect(self.take_trial)
        estimate.estimated.connect(self.take_estimate)
        results.swept.connect(self.take_sweep)

    def choose(self, image: Any, model: str) -> None:
        """Take another image layer or model: agreement is not known of them."""
        if (image, model) != self._chosen:
            self._chosen = (image, model)
            self._in_view = {}
        self.show()

    def take_estimate(self, estimate: Estimate | None) -> None:
        """Take what a run would take, or nothing."""
        self._time = "" if estimate is None else estimate.time
        self.show()

    def take_preview(self, preview: Preview) -> None:
        """Take the window that is looked at; what was known of another one is forgotten."""
        self._in_view = {}
        by_share = preview.importance is None
        if by_share and preview.agreement is not None and len(set(preview.keep_ratios)) == 1:
            self._in_view = {preview.keep_ratios[0]: preview.agreement}
        self.show()

    def take_trial(self, trial: Trial) -> None:
        """Take a keep ratio that was tried on the window in view; importances are not its own."""
        if not trial.by_importance:
            self._in_view[trial.value] = trial.agreement
            self.show()

    def take_sweep(self, swept: tuple[ShownResult, Sweep]) -> None:
        """Take the keep ratios of a whole volume."""
        self._swept = swept
        self.show()

    def show(self, _value: object = None) -> None:
        """Say what is known of the slider's value."""
        said = [self._time, self._of_view(), self._of_sweep()]
        self._slider.say_gains("; ".join(filter(None, said)))

    def _of_view(self) -> str:
        agreement = _nearest(self._in_view, self._slider.value())
        return (
            "" if agreement is None else f"agrees with 1.0 by {agreement:.1%} in the window in view"
        )

    def _of_sweep(self) -> str:
        if self._swept is None:
            return ""
        result, sweep = self._swept
        if (result.image, sweep.model) != self._chosen:
            return ""
        dice = {p.keep_ratio: p.mean_dice for p in sweep.line("learned") if p.mean_dice is not None}
        mean = _nearest(dice, self._slider.value())
        return "" if mean is None else f"mean Dice with 1.0: {mean:.3f} (sweep)"


class ImportanceGains(QObject):
    """Gathers how many tokens were kept by their importance, and says so of the slider's value.

    Parameters
    ----------
    slider
        Shows it.
    """

    def __init__(self, slider: ImportanceSlider) -> None:
        super().__init__(slider)
        self._slider = slider
        self._results: Results | None = None
        self._time = ""
        self._in_view: Preview | None = None
        self._run: ShownResult | None = None
        self._chosen: tuple[Any, str] = (None, "")

    def follow(self, estimate: EstimateLabel, results: Results) -> None:
        """Take what these find from now on, and follow the slider."""
        self._slider.valueChanged.connect(self.show)
        estimate.estimated.connect(self.take_estimate)
        self._results = results
        results.changed.connect(self._result_changed)
        self._result_changed()

    def choose(self, image: Any, model: str) -> None:
        """Take another image layer or model: no preview is known of them."""
        if (image, model) != self._chosen:
            self._chosen, self._in_view = (image, model), None
        self.show()

    def take_estimate(self, estimate: Estimate | None) -> None:
        """Take what a run would take, or nothing."""
        self._time = "" if estimate is None else estimate.time
        self.show()

    def take_preview(self, preview: Preview) -> bool:
        """Take the window that is looked at; return whether the slider's shares are known anew."""
        before = self.shares()
        self._in_view = preview
        self.show()
        shares = self.shares()
        return shares is not None and shares != before

    def _result_changed(self) -> None:
        assert self._results is not None
        self.take_result(self._results.latest)

    def take_result(self, result: ShownResult | None) -> None:
        """Take the latest run."""
        self._run = result
        self.show()

    def shares(self) -> tuple[float, ...] | None:
        """Return which share of its tokens each stage keeps by the slider's value; None if unknown.

        The latest run knows that of a whole volume; the preview, of the window in view.
        """
        run, preview = self._of_run(), self._of_view()
        if run is None and preview is None:
            return None
        known = preview.keep_ratios if preview is not None else ()
        if run is not None:
            known = run.segmentation.stats.kept_shares
        return tuple(max(share, _LEAST_SHARE) for share in known)

    def show(self, _value: object = None) -> None:
        """Say what is known of the slider's value."""
        said, preview, run = [self._time], self._of_view(), self._of_run()
        if run is not None:
            tokens = run.segmentation.stats.tokens
            said.append(f"the last run kept {tokens['kept']} of {tokens['processed']} tokens")
        if preview is not None:
            counts = " → ".join(map(str, preview.live))
            said.append(f"tokens of the window in view after each stage: {counts}")
        if preview is not None and preview.agreement is not None:
            said.append(f"agrees with 1.0 by {preview.agreement:.1%} there")
        if run is None and preview is None:
            said.append(NOT_KNOWN)
        text = "; ".join(filter(None, said))
        self._slider.say_gains(text[:1].upper() + text[1:])

    def _of_run(self) -> ShownResult | None:
        run = self._run
        if run is None or (run.image, run.options.model) != self._chosen:
            return None
        return run if self._is_mine(run.options.importance) else None

    def _of_view(self) -> Preview | None:
        preview = self._in_view
        known = preview is not None and preview.trace is not None
        return preview if known and preview and self._is_mine(preview.importance) else None

    def _is_mine(self, least: float | None) -> bool:
        return least is not None and abs(least - self._slider.value()) < _FINE


def _nearest(known: dict[float, float], ratio: float) -> float | None:
    return next((value for each, value in known.items() if abs(each - ratio) < _SAME), None)
