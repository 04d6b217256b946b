"""Beginning a run from a trained model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_tokensparse.datasets.cases import DataError, DataSet, layers_data_set
from napari_tokensparse.model.bundle import write_bundle
from napari_tokensparse.model.checkpoints import load_model
from napari_tokensparse.model.expected import HOUNSFIELD, STRIPPED_MR, Expected
from napari_tokensparse.model.folder import ModelError, describe_folder, origin_of, shown_name
from napari_tokensparse.model.info import LabelClass
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.scd import SCD
from napari_tokensparse.scoring.metrics import dice_per_class
from napari_tokensparse.segmenting.infer import segment
from napari_tokensparse.training.events import Chosen, Finished, StepDone
from napari_tokensparse.training.run import running
from napari_tokensparse.training.runconfig import RunConfig
from napari_tokensparse.training.starting import STEPS, Start
from napari_tokensparse.volumes.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from napari_tokensparse.training.recipes.parts import Recipe

AFFINE = np.diag([-1.0, 1.0, 1.0, 1.0])
METADATA = {"version": "1", "task": "", "description": "", "authors": "", "copyright": ""}
OLD, SHIFTED = (1.0, 1.6, 0.4), (1.0, 1.25, 0.75)
"""Grey values of tissue and of the two balls in it."""
BRAIN_MR = Expected(modality=("MR",), spacing_mm=(3.0, 6.0))


def scan(seed: int, levels: Sequence[float]) -> tuple[Volume, Volume]:
    """A ball of tissue with two small balls of other grey values in it, and their labels."""
    rng = np.random.default_rng(seed)
    voxels = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"))
    away = [((voxels - rng.uniform(10, 22, (3, 1, 1, 1))) ** 2).sum(axis=0) for _ in range(2)]
    body = ((voxels - 15.5) ** 2).sum(axis=0) < 225
    label = np.zeros(body.shape, np.uint8)
    label[(away[0] < 36) & body], label[(away[1] < 25) & body] = 1, 2
    grey = (np.array(levels)[label] + 0.1 * rng.standard_normal(body.shape)) * body
    name = f"scan {seed}"
    return Volume(100 * grey[None].astype(np.float32), AFFINE, name), Volume(
        label[None], AFFINE, name
    )


def trained(
    output: Path, pairs: list[tuple[Volume, Volume]], steps: int, lr: float, **asked: Any
) -> list[Any]:
    """Train for so many steps, and return the events."""
    sets = {"steps": steps, "lr": lr, "warmup_steps": 5, "precision": "float32"}
    config = RunConfig(output=output, device="cpu", validation_share=0.0, overrides=sets, **asked)
    names = asked.get("start_from") is None and {1: "bright", 2: "dark"}
    return list(running(config, data_set=layers_data_set(pairs, True, names or None)))


def mean_dice(model: Path, pairs: list[tuple[Volume, Volume]]) -> float:
    scores = [
        dice_per_class(segment(image, model, device="cpu").labels, label.array[0], [1, 2])
        for image, label in pairs
    ]
    return float(np.mean(scores))


def test_three_corrected_scans_of_another_contrast_improve_a_model_more_than_a_start_from_nothing(
    tmp_path: Path,
) -> None:
    trained(tmp_path / "old", [scan(n, OLD) for n in range(6)], 60, 1e-2, size="nano")
    corrected = [scan(100 + n, SHIFTED) for n in range(3)]
    unseen = [scan(200 + n, SHIFTED) for n in range(3)]
    events = trained(tmp_path / "tuned", corrected, 20, 5e-3, start_from=tmp_path / "old")
    trained(tmp_path / "fresh", corrected, 20, 1e-2, size="nano")
    untouched, tuned, fresh = (
        mean_dice(tmp_path / name, unseen) for name in ("old", "tuned", "fresh")
    )
    assert tuned > untouched + 0.05
    assert tuned > fresh + 0.2
    assert mean_dice(tmp_path / "tuned", corrected) > mean_dice(tmp_path / "old", corrected) + 0.05

    chosen = next(event for event in events if isinstance(event, Chosen))
    assert chosen.reasons[0].startswith("Begins from old (weights ")
    card = (tmp_path / "tuned/docs/README.md").read_text()
    assert chosen.reasons[0] in card
    origin = origin_of(tmp_path / "tuned")
    assert origin is not None and origin.began_from is not None
    assert origin.began_from.name == "old"
    old = describe_folder(tmp_path / "old").info
    assert origin.began_from.weights_sha256 == old.weights_sha256
    assert describe_folder(tmp_path / "tuned").info.classes == old.classes  # names of the model


@pytest.fixture
def start(make_model: Callable[..., SCD]) -> Start:
    """A model of the classes 4, 17 and 53, called "part 4" and so on."""
    return Start(make_model((4, 17, 53)))


def labelled(*values: int) -> tuple[Volume, Volume]:
    image, label = scan(0, OLD)
    for number, value in enumerate(values):
        label.array[:, 2 * number : 2 * number + 2] = value
    label.array[~np.isin(label.array, values)] = 0
    return image, label


def data_set(*values: int, names: dict[int, str] | None = None) -> DataSet:
    return layers_data_set([labelled(*values)], True, names)


def test_classes_and_channels_without_names_are_called_as_in_the_model(start: Start) -> None:
    named = start.named(data_set(4, 5, 53, names={53: "mine"}))
    assert named.labels == {4: "part 4", 5: "label 5", 53: "mine"}
    assert named.channels == ("T1",)


def test_rows_of_the_head_follow_their_classes_and_others_are_made_anew(
    start: Start, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "old", start.network, METADATA, "# old")
    pair = labelled(4, 17, 60)
    config = RunConfig(
        output=tmp_path / "new",
        device="cpu",
        start_from=str(tmp_path / "old"),
        overrides={"steps": 1, "lr": 1e-12, "weight_decay": 0.0},
    )
    events = list(running(config, data_set=layers_data_set([pair], True)))
    reasons = next(event for event in events if isinstance(event, Chosen)).reasons
    assert "made anew for label 60; without part 53, which the data do not list" in reasons[1]
    network = load_model(tmp_path / "new")
    assert network.info is not None
    assert network.info.label_values == (0, 4, 17, 60)
    head, before = (n.decoder.out.conv.conv for n in (network, start.network))
    torch.testing.assert_close(head.weight[:3], before.weight[:3])
    assert not torch.allclose(head.weight[3], before.weight[3])
    torch.testing.assert_close(network.encoder.state_dict(), start.network.encoder.state_dict())


def test_the_rows_of_a_linear_head_are_those_of_its_patches(start: Start) -> None:
    config = preset("nano", decoder="linear", out_channels=4, window=(16, 16, 16))
    theirs = Start(SCD(config, start.info))
    own_config = config.model_copy(update={"out_channels": 2})
    own = SCD(own_config, start.info.model_copy(update={"classes": start.info.classes[1:2]}))
    theirs.fill(own)
    before = theirs.network.decoder.linear.weight.unflatten(0, (4, -1))
    torch.testing.assert_close(own.decoder.linear.weight.unflatten(0, (2, -1)), before[[0, 2]])


def test_channels_that_do_not_fit_are_refused_in_one_line(start: Start) -> None:
    image, label = labelled(4)
    two = Volume(np.repeat(image.array, 2, axis=0), AFFINE, "two")
    with pytest.raises(DataError) as error:
        start.named(layers_data_set([(two, label)], True))
    assert str(error.value) == (
        "start from nano: takes 1 channels (T1) and the data have 2 (channel 1, channel 2); start "
        "from another model"
    )


def test_the_grid_intensities_and_padding_are_those_of_the_model(
    make_cropping: Callable[..., SCD], tmp_path: Path
) -> None:
    turned = {"_target_": "Orientationd", "keys": "image", "axcodes": "SPL"}
    scaled = {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True}
    model = make_cropping(preprocessing=(turned, scaled), overlap=0.25)
    write_bundle(tmp_path / "old", model, METADATA, "# old")
    config = RunConfig(output=tmp_path / "new", device="cpu", start_from=str(tmp_path / "old"))
    events = running(config, data_set=data_set(4, 17, 53, names={4: "left", 17: "right"}))
    chosen = next(event for event in events if isinstance(event, Chosen))
    events.close()  # type: ignore[attr-defined]  # it is a generator
    assert f"{STEPS} steps" in chosen.reasons[2]
    assert "windows of 32x24x16 voxels" in chosen.reasons[0]


def recipe_for(named: DataSet) -> Recipe:
    from napari_tokensparse.datasets.checks import checking
    from napari_tokensparse.training.recipes.choose import make_recipe

    facts = [case.facts for case in checking(named) if case.facts is not None]
    return make_recipe("auto", named, facts, memory_bytes=2**33)


def test_crops_are_flipped_along_the_axes_of_the_model(start: Start) -> None:
    recipe = recipe_for(data_set(4, 17, 53, names={4: "left", 17: "right"}))

    def flipped(axcodes: str | None) -> list[int]:
        turned = {"_target_": "Orientationd", "keys": "image", "axcodes": axcodes}
        steps = () if axcodes is None else (turned,)
        info = start.info.model_copy(update={"preprocessing": steps})
        adapted = Start(SCD(start.network.config, info)).adapted(recipe, 2**33, True)
        return [t["spatial_axis"] for t in adapted.plan.augmentation if "spatial_axis" in t]

    assert flipped("RAS") == [1, 2]
    assert sorted(flipped("SPL")) == [0, 1]  # left and right lie along its axis 2
    assert flipped(None) == []


@pytest.mark.parametrize(
    ("theirs", "ct", "expected"),
    [
        (None, False, None),
        (None, True, HOUNSFIELD),
        (STRIPPED_MR, False, STRIPPED_MR),
        (STRIPPED_MR, True, HOUNSFIELD),  # the data say otherwise
        (HOUNSFIELD, False, None),
        (BRAIN_MR, False, BRAIN_MR.model_copy(update={"spacing_mm": (1.0, 6.0)})),
    ],
)
def test_what_a_model_expects_is_taken_over_unless_the_data_are_others(
    start: Start, theirs: Expected | None, ct: bool, expected: Expected | None
) -> None:
    recipe = recipe_for(data_set(4, 17, 53, names={4: "left", 17: "right"}))
    ours = recipe.info.model_copy(update={"expects": HOUNSFIELD if ct else None})
    info = start.info.model_copy(update={"expects": theirs})
    begun = Start(SCD(start.network.config, info))
    adapted = begun.adapted(recipe.model_copy(update={"info": ours}), 2**33, True)
    assert adapted.info.expects == expected


def test_a_head_is_stripped_as_long_as_no_class_of_the_brain_is_gone(start: Start) -> None:
    info = start.info.model_copy(update={"foreground_ml": (1.0, 2.0), "strip": True})
    begun = Start(SCD(start.network.config, info))
    own = {c.value: c.name for c in info.classes}

    def strips(names: dict[int, str]) -> bool:
        recipe = recipe_for(data_set(4, 17, 53, names=names))
        return begun.adapted(recipe, 2**33, True).info.strip

    assert strips({**own, 60: "lesion"})
    assert not strips(dict(list(own.items())[:1]))
    by_another = Start(SCD(start.network.config, info.model_copy(update={"strip_by": "b"})))
    recipe = recipe_for(data_set(4, 17, 53, names=dict(list(own.items())[:1])))
    said = by_another.adapted(recipe, 2**33, True).info
    assert (said.strip, said.strip_by) == (True, "b")


def test_a_size_beside_a_model_and_a_model_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the network is that model's; leave one of the two out"):
        RunConfig(output=tmp_path / "new", size="small", start_from="old")
    config = RunConfig(output=tmp_path / "new", start_from="brain-structure")
    with pytest.raises(ModelError, match="did you mean brain-structures"):
        next(iter(running(config, data_set=data_set(4))))
    assert not (tmp_path / "new").exists()


def test_a_stopped_run_is_marked_in_metadata_card_and_lists_until_it_has_ended(
    nano: Path, tmp_path: Path
) -> None:
    config = RunConfig(
        output=tmp_path / "new",
        device="cpu",
        start_from=str(nano),
        overrides={"steps": 3, "validate_every": 1},
    )
    pairs = layers_data_set([labelled(7)], True)
    asked = iter([False, True])
    events = list(running(config, data_set=pairs, stop=lambda: next(asked)))
    assert isinstance(events[-1], Finished) and events[-1].reason == "stopped"
    origin = origin_of(config.output)
    assert origin is not None and (origin.ended, origin.is_unfinished) == ("stopped", True)
    assert shown_name(config.output) == "new (unfinished)"
    assert "**Unfinished**" in (config.output / "docs/README.md").read_text()

    rest = list(running(config, data_set=pairs, resume=True))
    assert [event.step for event in rest if isinstance(event, StepDone)] == [3]
    metadata = json.loads((config.output / "configs/metadata.json").read_text())
    said = metadata["napari_tokensparse_training"]
    assert (said["ended"], said["began_from"]["name"]) == ("steps", "nano")
    assert shown_name(config.output) == "new"
    card = (config.output / "docs/README.md").read_text()
    assert "**Unfinished**" not in card
    assert "Nothing yet." not in card  # the best validation may be one before the stop


def test_a_model_of_regions_gives_no_row_to_classes_that_exclude_one_another(
    make_model: Callable[..., SCD],
) -> None:
    theirs = Start(make_model((4, 17), exclusive=False))
    own = make_model((4, 17))
    before = own.decoder.out.conv.conv.weight.clone()
    theirs.fill(own)
    torch.testing.assert_close(own.decoder.out.conv.conv.weight, before)
    assert own.info is not None and own.info.classes[0] == LabelClass(
        value=4, name="part 4", color=(4, 0, 0)
    )
