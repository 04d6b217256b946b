"""How windows to train on are made of cases."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt


class SamplingPlan(BaseModel):
    """How windows to train on are made of cases.

    Attributes
    ----------
    window : tuple of int
        (h, w, d) in voxels of the model's grid.
    crops : int
        Windows per volume.
    positive_share : float
        Share of crops whose centre is labelled with a class; the others' is background.
    balanced : bool
        Whether each class of a volume is equally often at the centre of a positive crop, rather
        than as often as it has voxels.
    image_threshold : float or None
        A background centre lies where a channel is above this; None: anywhere, so that windows of
        little but air, which inference meets at the edges, are learnt too.
    preprocessing : tuple of dict
        MONAI transforms on the key ``image``, done once per volume; the label follows what moves
        voxels. Those of ``ModelInfo.preprocessing`` or the first of them.
    augmentation : tuple of dict
        MONAI transforms of each crop, on the keys ``image`` and ``label``, in order. What scales
        intensities crop by crop stands here too.
    jitter : int
        Voxels that a volume is padded to beyond the window, so that crops of one no larger than the
        window do not all lie alike on the token grid.
    background : float
        Intensity that a volume smaller than the window is padded with.
    values : tuple of int
        Label value of each exclusive output channel, ascending, 0 first.
    regions : tuple of tuple of int
        Label values that make up each overlapping output channel; if any, ``values`` is not used.
    unlabelled : int or None
        Label value of voxels that nobody has labelled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: tuple[PositiveInt, PositiveInt, PositiveInt]
    crops: PositiveInt = 1
    positive_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    balanced: bool = False
    image_threshold: float | None = None
    preprocessing: tuple[dict[str, Any], ...] = ()
    augmentation: tuple[dict[str, Any], ...] = ()
    jitter: NonNegativeInt = 0
    background: float = 0.0
    values: tuple[int, ...] = ()
    regions: tuple[tuple[int, ...], ...] = ()
    unlabelled: int | None = None
