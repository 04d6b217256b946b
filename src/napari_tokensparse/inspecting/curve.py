"""The picture of a sweep: agreement and cost against the keep ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from napari_tokensparse.common.files import written_whole
from napari_tokensparse.inspecting.drawing import RULE_COLOURS, SCORER_COLOURS, dice_range

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from napari_tokensparse.inspecting.points import SweepPoint
    from napari_tokensparse.inspecting.sweep import Sweep

# Of Okabe and Ito's colours too; none of them is a scorer's that is drawn beside.
_COST_COLOURS = {"time": "#000000", "GMACs": "#0072b2", "memory": "#56b4e9"}
_PANEL_INCHES = 4.2


def save_curve(path: Path, sweep: Sweep) -> Path:
    """Draw a sweep as PNG: the learned pruning as a thick line, the controls as thin ones.

    A panel each for the agreement with keep ratio 1.0, for that with the labels where there are
    any, for the two rules over the tokens that they keep where both were run, and for what the
    first scorer's runs cost in per cent of keep ratio 1.0.
    """
    by_importance = bool(sweep.importance_line)
    count = 2 + sweep.has_labels + by_importance
    figure = Figure((_PANEL_INCHES * count, 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels: Sequence[Axes] = figure.subplots(1, count)
    _draw_dice(panels[0], sweep, "keep ratio 1.0", lambda point: point.mean_dice)
    if sweep.has_labels:
        _draw_dice(panels[1], sweep, "the labels", lambda point: point.mean_labels_dice)
    if by_importance:
        _draw_rules(panels[-2], sweep)
    _draw_costs(panels[-1], sweep)
    figure.suptitle(f"{sweep.model} on {sweep.device}", fontsize=10)
    with written_whole(path) as part:
        figure.savefig(part)
    return path


def _draw_dice(
    axes: Axes, sweep: Sweep, against: str, dice: Callable[[SweepPoint], float | None]
) -> None:
    shown: list[float] = []
    for scorer in reversed(sweep.scorers):  # the learned one last, on top
        known = [(p.keep_ratio, d) for p in sweep.line(scorer) if (d := dice(p)) is not None]
        width, size = (2.5, 6) if scorer == "learned" else (1.0, 3)
        ratios, scores = [ratio for ratio, _ in known], [score for _, score in known]
        axes.plot(
            ratios,
            scores,
            color=SCORER_COLOURS[scorer],
            linewidth=width,
            marker="o",
            markersize=size,
            label=scorer,
        )
        shown += scores
    axes.set_ylabel(f"mean Dice with {against}")
    axes.set_ylim(dice_range(shown))
    _finish(axes)


def _draw_rules(axes: Axes, sweep: Sweep) -> None:
    """Draw pruning by a share and by importance over the share of tokens kept, without pruning."""
    shown: list[float] = []
    lines = {"share": sweep.line("learned"), "importance": sweep.importance_line}
    for (name, line), marker in zip(lines.items(), "os", strict=True):
        points = [(100 * p.kept_share, p.mean_dice) for p in line if p.mean_dice is not None]
        kept, scores = [x for x, _ in points], [dice for _, dice in points]
        axes.plot(kept, scores, color=RULE_COLOURS[name], marker=marker, linewidth=2, label=name)
        shown += scores
    axes.set_ylabel("mean Dice with keep ratio 1.0")
    axes.set_ylim(dice_range(shown))
    _finish(axes)
    axes.set_xlabel("tokens kept to the end, %")
    axes.set_xlim(0.0, 103.0)


def _draw_costs(axes: Axes, sweep: Sweep) -> None:
    line = sweep.line(sweep.scorers[0])
    costs: dict[str, Callable[[SweepPoint], float]] = {
        "time": lambda point: point.seconds,
        "GMACs": lambda point: point.gmacs,
        "memory": lambda point: point.peak_mb,
    }
    for (name, cost), marker in zip(costs.items(), "os^", strict=True):
        whole = cost(line[-1])
        if whole > 0:
            shares = [100 * cost(point) / whole for point in line]
            ratios = [point.keep_ratio for point in line]
            axes.plot(ratios, shares, color=_COST_COLOURS[name], marker=marker, label=name)
    axes.set_ylabel("cost in % of keep ratio 1.0")
    axes.set_ylim(bottom=0.0)
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.set_xlabel("keep ratio per stage")
    axes.set_xlim(0.0, 1.03)
    axes.grid(alpha=0.3)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], names[::-1], frameon=False)
