"""What the Train widget runs in a worker's thread: a check of the data, or a training run.

A request holds everything that a run needs, read off the widget once; nothing here touches Qt.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from napari_tokensparse.common import settings
from napari_tokensparse.datasets.slices import painted_slices
from napari_tokensparse.model.folder import describe_folder
from napari_tokensparse.training.events import CaseRead, Chosen, Validated
from napari_tokensparse.volumes.placement import layer_kwargs
from napari_tokensparse.volumes.reading import read_volume
from napari_tokensparse.widgets.importing import IMPORTING
from napari_tokensparse.widgets.layers import placement_kwargs
from napari_tokensparse.widgets.layervolumes import read_layer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path
    from threading import Event as StopEvent

    from napari.layers import Image, Labels
    from numpy.typing import NDArray

    from napari_tokensparse.datasets.cases import Case, DataSet
    from napari_tokensparse.model.info import ModelInfo
    from napari_tokensparse.training.events import Event
    from napari_tokensparse.training.runconfig import RunConfig
    from napari_tokensparse.volumes.volume import Volume


@dataclass(frozen=True, eq=False)
class LayerPair:
    """An image layer and its labels layer as volumes; and where the image is shown.

    Attributes
    ----------
    image, label
        On the same grid where the layers are.
    placement
        The image layer's `placement_kwargs`.
    names
        Names of the classes that the labels layer gives.
    """

    image: Volume
    label: Volume
    placement: dict[str, Any]
    names: dict[int, str]


@dataclass(frozen=True, eq=False)
class TrainRequest:
    """A training run, or a check of its data, as the widget asks for it."""

    config: RunConfig
    pairs: tuple[LayerPair, ...] = ()
    resume: bool = False

    def doubts(self) -> tuple[str, ...]:
        """Say what speaks against training on the layers as they are, one sentence each."""
        if self.resume or self.config.zero_is_unlabelled:
            return ()
        layers = ((pair.label.name, painted_slices(pair.label.array[0])) for pair in self.pairs)
        return tuple(f"{name}: {painted.note}." for name, painted in layers if painted is not None)

    def data_set(self) -> DataSet:
        """Return the cases as they are stored, none of them read yet."""
        with IMPORTING:
            from napari_tokensparse.datasets.cases import layers_data_set, read_data_set

        if self.config.data is not None:
            data_set = read_data_set(self.config.data, self.config.labels, self.config.fold)
            return replace(data_set, unlabelled=0) if self.config.zero_is_unlabelled else data_set
        names = {value: name for pair in self.pairs for value, name in pair.names.items()}
        volumes = [(pair.image, pair.label) for pair in self.pairs]
        return layers_data_set(volumes, not self.config.zero_is_unlabelled, names)


@dataclass(frozen=True)
class Report:
    """What a check of the data found."""

    text: str


@dataclass(frozen=True, eq=False)
class CasePreview:
    """A case with the labels that the network gives it now.

    Attributes
    ----------
    case
        Its name.
    image
        Its image.
    labels
        Shape (i, j, k), on the image's grid.
    placement
        How layers on this grid are shown.
    image_is_open
        Whether the image is a layer of the viewer.
    info
        Names and colours of the classes.
    """

    case: str
    image: Volume
    labels: NDArray[Any]
    placement: Mapping[str, Any]
    image_is_open: bool
    info: ModelInfo


def layer_pair(image: Image, labels: Labels) -> LayerPair:
    """Read two layers once.

    Raises
    ------
    ValueError
        In one plain line, if one of them is not a 3-D volume of one channel.
    """
    return LayerPair(
        _volume(image, image),
        _volume(labels, image),
        placement_kwargs(image),
        _class_names(labels),
    )


def checking_data(request: TrainRequest, stop: StopEvent) -> Iterator[CaseRead | Report]:
    """Check every case, and report on all of them at the end."""
    with IMPORTING:
        from napari_tokensparse.datasets.cases import with_classes
        from napari_tokensparse.datasets.checks import checking, class_notes, report

    config = request.config
    data_set = with_classes(request.data_set(), config.class_names, config.background)
    total, checked = len(data_set.training) + len(data_set.validation), []
    for case in checking(data_set):
        checked.append(case)
        yield CaseRead(len(checked), total, case.case.name, case.problems)
        if stop.is_set():
            return
    notes = (*data_set.notes, *class_notes(data_set, checked))
    yield Report("\n".join([report(checked), *notes]))


def training(request: TrainRequest, stop: StopEvent) -> Iterator[Event | CasePreview]:
    """Train, and show the validation case after each validation.

    Once ``stop`` is set, the run ends after its step with a checkpoint; before the first step, at
    once.
    """
    previews = _Previews(request)
    with closing(_events(request, stop)) as events:
        for event in events:
            yield event
            if isinstance(event, Validated) and event.preview is not None:
                yield previews.of(event.case, event.preview)
            elif isinstance(event, CaseRead | Chosen) and stop.is_set():
                return


def _events(request: TrainRequest, stop: StopEvent) -> Generator[Event]:
    if request.config.processes > 1:
        with IMPORTING:
            from napari_tokensparse.training.launch import launched

        yield from launched(request.config, resume=request.resume, stop=stop.is_set)
    else:
        with IMPORTING:
            from napari_tokensparse.compute.devices import use_threads
            from napari_tokensparse.training.run import running

        use_threads(settings.current().computing.threads)
        layers = request.data_set() if request.pairs else None
        yield from running(request.config, data_set=layers, resume=request.resume, stop=stop.is_set)


class _Previews:
    """Makes previews; what stays the same is read once."""

    def __init__(self, request: TrainRequest) -> None:
        self._request = request

    def of(self, name: str, labels: Path) -> CasePreview:
        """Show a case with the labels of a file."""
        number = self._names.index(name)
        image, pairs = self._cases[number].read_image(), self._request.pairs
        return CasePreview(
            case=name,
            image=image,
            labels=read_volume(labels).array[0],
            placement=pairs[number].placement if pairs else layer_kwargs(image),
            image_is_open=bool(pairs),
            info=self._info,
        )

    @cached_property
    def _cases(self) -> tuple[Case, ...]:
        data_set = self._request.data_set()
        return (*data_set.training, *data_set.validation)

    @cached_property
    def _names(self) -> list[str]:
        return [case.name for case in self._cases]

    @cached_property
    def _info(self) -> ModelInfo:
        return describe_folder(self._request.config.output).info


def _volume(layer: Image | Labels, image: Image) -> Volume:
    """Return a copy: the person may go on painting."""
    volume, _ = read_layer(layer, like=image)
    return replace(volume, array=volume.array.copy(), name=layer.name)


def _class_names(labels: Labels) -> dict[int, str]:
    features = labels.features
    if not {"index", "name"} <= set(features.columns):
        return {}
    return {int(n): str(name) for n, name in zip(features["index"], features["name"], strict=True)}
