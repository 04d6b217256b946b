from pathlib import Path
from typing import Any

import pytest

from lesion_card import draw_lost, lost_shares, table, write_card
from lesions.cases import MADE_UP, REAL
from napari_tokensparse.model.folder import CARD


def figure(by: str, setting: float, dice: float, **more: Any) -> dict[str, Any]:
    scores = {"dice": dice, "f1": 0.5, "sensitivity": 0.6, "precision": 0.4}
    sizes = {"lost": [2, 1, 0, 0], "lesions": [4, 2, 1, 1]}
    return {"group": REAL, "case": "a", "by": by, "setting": setting, **scores, **sizes, **more}


def figures() -> list[dict[str, Any]]:
    run = {"tokens": 0.25, "seconds": 2.0}
    return [
        figure("learned", 1.0, 0.6, tokens=1.0, seconds=4.0),
        figure("learned", 0.25, 0.5, **run),
        figure("learned", 0.25, 0.7, **run, lost=[4, 2, 1, 0], group=MADE_UP),
        figure("random", 0.25, 0.2, **run),
        figure("intensity", 0.25, 0.3, **run),
        figure("importance", 0.1, 0.5, tokens=0.12, seconds=1.5),
        figure("importance", 0.2, 0.6, tokens=0.10, seconds=1.5),
        figure("encoder ablated", 1.0, 0.4, tokens=1.0, seconds=3.0),
        figure("threshold", 173.0, 0.25),
        figure("threshold", 155.0, 0.35),
    ]


def test_a_table_has_the_mean_of_each_way() -> None:
    rows = table(figures()).splitlines()
    assert rows[2] == ("| pruned by the model, keep 1 | 0.60 | 0.50 | 0.60 | 0.40 | 100 % | 4.0 |")
    assert rows[3].startswith("| pruned by the model, keep 0.25 | 0.60 |")
    assert "| by importance | 0.55 | 0.50 | 0.60 | 0.40 | 11 % | 1.5 |" in rows
    assert rows[-1] == "| best threshold in white matter | 0.30 | 0.50 | 0.60 | 0.40 | – | – |"
    assert len(rows) == 2 + 7


def test_lost_lesions_are_counted_over_all_scans() -> None:
    assert lost_shares(figures()) == {
        1.0: pytest.approx([0.5, 0.5, 0, 0]),
        0.25: pytest.approx([6 / 8, 3 / 4, 1 / 2, 0]),
    }


def test_card_and_picture_are_written_from_the_figures(tmp_path: Path) -> None:
    (tmp_path / CARD).parent.mkdir()
    write_card(tmp_path, figures(), 0.93)
    card = (tmp_path / CARD).read_text(encoding="utf-8")
    real, made_up = card.split("## Measured: made-up patients")
    assert "| pruned by the model, keep 0.25 | 0.50 |" in real
    assert "| pruned by the model, keep 0.25 | 0.70 |" in made_up
    assert "1 scans" in made_up
    assert "{" not in card
    draw_lost(tmp_path / "lost.png", figures())
    assert (tmp_path / "lost.png").read_bytes()[:4] == b"\x89PNG"
