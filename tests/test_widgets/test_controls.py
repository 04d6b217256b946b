from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLineEdit, QSlider

from napari_tokensparse.model.folder import bundled_models_folder
from napari_tokensparse.segmenting.infer import available_devices
from napari_tokensparse.widgets.controls import (
    AUTO_DEVICE,
    DeviceCombo,
    ModelCombo,
    models,
)
from napari_tokensparse.widgets.pruning.sliders import KeepRangeSlider, KeepRatioSlider

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.gui


def test_the_slider_says_what_its_value_means(qtbot: QtBot) -> None:
    slider = KeepRatioSlider()
    qtbot.addWidget(slider)
    slider.set_network(stages=3, tokens=640)
    slider.setValue(0.25)
    assert slider.value() == 0.25
    assert slider.meaning.text() == (
        "25 % per stage → 1.56 % of tokens reach the end\n"
        "Tokens of a window after each stage: 640 → 160 → 40 → 10"
    )
    slider.set_network(stages=3, tokens=5120, crops=True)
    assert slider.meaning.text().endswith(
        "Tokens of a full window (fewer where it is empty) after each stage: 5120 → 1280 → 320 → 80"
    )
    slider.setValue(1.0)
    assert slider.meaning.text().startswith("No pruning: every token reaches the end")


def test_a_number_typed_beside_the_slider_moves_it_and_it_stays_in_range(qtbot: QtBot) -> None:
    slider = KeepRatioSlider()
    qtbot.addWidget(slider)
    slider.setValue(0.5)
    with qtbot.waitSignal(slider.valueChanged) as changed:
        number = slider.findChild(QLineEdit)
        number.selectAll()
        qtbot.keyClicks(number, "0.55")
        qtbot.keyClick(number, Qt.Key.Key_Return)
    assert changed.args == [0.55]
    slider.setValue(0.0)
    assert slider.value() == 0.05
    slider.setValue(7.0)
    assert slider.value() == 1.0


def test_keys_move_the_slider(qtbot: QtBot) -> None:
    slider = KeepRatioSlider()
    qtbot.addWidget(slider)
    handle, keys = slider.findChild(QSlider), Qt.Key
    slider.setValue(0.5)
    seen = []
    for key in (
        keys.Key_Left,
        keys.Key_Right,
        keys.Key_Up,
        keys.Key_PageUp,
        keys.Key_Down,
        keys.Key_PageDown,
        keys.Key_End,
        keys.Key_Home,
    ):
        qtbot.keyClick(handle, key)
        seen.append(slider.value())
    assert seen == [0.45, 0.5, 0.55, 0.65, 0.6, 0.5, 1.0, 0.05]
    qtbot.keyClick(handle, keys.Key_A)
    assert slider.value() == 0.05


def test_the_combo_lists_bundled_and_user_models_and_takes_any_folder(
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    write_nano: Callable[..., Path],
) -> None:
    mine = write_nano("mine")
    monkeypatch.setenv("TOKENSPARSE_MODELS", str(tmp_path))
    combo = ModelCombo()
    qtbot.addWidget(combo)
    assert [combo.combo.itemText(n) for n in range(combo.combo.count())] == [
        *(folder.name for folder in sorted(bundled_models_folder().iterdir()) if folder.is_dir()),
        "mine",
    ]
    assert combo.combo.itemText(0) == "brain-structures"
    listed = combo.combo.count()
    with qtbot.waitSignal(combo.valueChanged, timeout=60_000) as changed:
        combo.setValue(mine)
    assert changed.args == [mine]
    elsewhere = tmp_path / "elsewhere"
    combo.setValue(elsewhere)
    combo.setValue(elsewhere)
    assert combo.value() == elsewhere
    assert combo.combo.count() == listed + 1


def test_browse_adds_the_model_that_the_dialog_gives_and_refuses_what_is_none(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nano: Path
) -> None:
    combo = ModelCombo()
    qtbot.addWidget(combo)
    chosen = iter([str(nano), str(tmp_path), "", str(nano.parent)])
    monkeypatch.setattr(
        "napari_tokensparse.widgets.controls.QFileDialog.getExistingDirectory",
        lambda *_: next(chosen),
    )
    qtbot.mouseClick(combo.browse, Qt.MouseButton.LeftButton)
    assert combo.value() == nano
    before = combo.combo.count()
    qtbot.mouseClick(combo.browse, Qt.MouseButton.LeftButton)
    assert combo.refusal.text().startswith(f"{tmp_path} is no model folder: it holds neither ")
    assert not combo.refusal.isHidden()
    qtbot.mouseClick(combo.browse, Qt.MouseButton.LeftButton)  # cancelled: nothing changes
    qtbot.mouseClick(combo.browse, Qt.MouseButton.LeftButton)  # the folder around a model
    assert combo.value() == nano and combo.combo.count() == before
    combo.combo.setCurrentIndex(0)
    assert combo.refusal.isHidden()


def test_no_model_can_be_a_choice_and_a_model_that_is_added_is_listed_in_later_combos_too(
    qtbot: QtBot, nano: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "added", [])
    models.add(nano)
    combo = ModelCombo(nothing="random weights")
    qtbot.addWidget(combo)
    assert combo.value() is None and combo.combo.currentText() == "random weights"
    with qtbot.waitSignal(combo.valueChanged, timeout=60_000) as changed:
        combo.setValue(nano)
    assert changed.args == [nano]
    combo.setValue(None)
    assert combo.value() is None


def test_a_model_of_the_hub_is_fetched_by_its_address_and_chosen(
    qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, nano: Path
) -> None:
    asked: list[str] = []

    def download(repository: str, **_: object) -> str:
        asked.append(repository)
        return str(nano)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    typed = iter([("lab/brain", True), ("brain", True), ("", False)])
    monkeypatch.setattr(
        "napari_tokensparse.widgets.controls.QInputDialog.getText", lambda *_: next(typed)
    )
    combo = ModelCombo()
    qtbot.addWidget(combo)
    with qtbot.waitSignal(combo.valueChanged, timeout=60_000):
        qtbot.mouseClick(combo.hub, Qt.MouseButton.LeftButton)
        assert not combo.hub.isEnabled()
    assert (asked, combo.value()) == (["lab/brain"], nano)
    assert combo.combo.currentText() == "hf://lab/brain"
    assert combo.hub.isEnabled()
    shown: list[str] = []
    monkeypatch.setattr("napari_tokensparse.widgets.controls.show_error", shown.append)
    qtbot.mouseClick(combo.hub, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(combo.hub.isEnabled, timeout=60_000)
    assert shown == ["model hf://brain: must be hf://owner/repo or hf://owner/repo@revision"]
    qtbot.mouseClick(combo.hub, Qt.MouseButton.LeftButton)  # cancelled: nothing changes
    assert (asked, combo.value()) == (["lab/brain"], nano)


def test_a_model_that_is_written_joins_every_open_combo_and_changes_no_choice(
    qtbot: QtBot, tmp_path: Path
) -> None:
    combos = [ModelCombo(), ModelCombo()]
    for combo in combos:
        qtbot.addWidget(combo)
    chosen = combos[0].value()
    models.written.emit(tmp_path / "new")
    models.written.emit(tmp_path / "new")  # trained further
    for combo in combos:
        assert combo.value() == chosen
        assert combo.combo.itemText(combo.combo.count() - 1) == "new"
        assert combo.combo.findData(str(tmp_path / "new")) == combo.combo.count() - 1


def test_the_range_slider_says_what_both_ends_mean_and_stays_in_range(qtbot: QtBot) -> None:
    slider = KeepRangeSlider()
    qtbot.addWidget(slider)
    assert slider.value() == (0.1, 1.0)
    with qtbot.waitSignal(slider.valueChanged) as changed:
        slider.setValue((0.25, 0.5))
    assert changed.args == [(0.25, 0.5)]
    assert slider.meaning.text().splitlines() == [
        "Lowest: 25 % per stage → 1.56 % of tokens reach the end",
        "Highest: 50 % per stage → 12.5 % of tokens reach the end",
    ]
    slider.setValue((0.0, 7.0))
    assert slider.value() == (0.05, 1.0)


def test_the_devices_that_torch_finds_join_the_combo(qtbot: QtBot) -> None:
    combo = DeviceCombo()
    qtbot.addWidget(combo)
    combo.setValue("cpu")
    listed = [AUTO_DEVICE, *available_devices()]
    qtbot.waitUntil(
        lambda: [combo.itemText(n) for n in range(combo.count())] == listed, timeout=60_000
    )
    assert combo.value() == "cpu"
