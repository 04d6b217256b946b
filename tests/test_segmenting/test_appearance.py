import numpy as np
import pytest
from numpy.typing import NDArray

from napari_tokensparse.segmenting.appearance import Appearance, Samples, fit


def scan_of(
    means: list[list[float]], bias: float = 0.0, count: int = 30_000, surely: float = 0.8
) -> tuple[Samples, NDArray[np.int64]]:
    """Voxels of classes of these means ``(K, C)``, sd 1, and a prior that is right that often."""
    rng = np.random.default_rng(0)
    truth = rng.integers(len(means), size=count)
    places = rng.uniform(-1, 1, (count, 3))
    intensities = np.array(means)[truth] + rng.normal(size=(count, len(means[0])))
    intensities *= 1 + bias * places[:, :1]
    right = rng.random(count) < surely
    labels = np.where(right, truth, rng.integers(len(means), size=count))
    prior = np.full((count, len(means)), (1 - surely) / (len(means) - 1))
    prior[np.arange(count), labels] = surely
    return Samples(intensities, places, prior / prior.sum(axis=1, keepdims=True)), truth


def test_means_of_the_classes_are_found_although_the_prior_is_often_wrong() -> None:
    samples, _ = scan_of([[10.0], [20.0], [30.0]])
    fitted = fit(samples)
    assert fitted.means[:2, 0] == pytest.approx([20.0, 30.0], abs=0.15)
    assert fitted.variances[:2, 0] == pytest.approx([1.0, 1.0], abs=0.3)
    assert fitted.trust[1, 2] == 1.0


def test_classes_that_look_the_same_are_not_trusted_to_be_told_apart() -> None:
    samples, _ = scan_of([[10.0], [20.0], [20.0]])
    trust = fit(samples).trust
    assert trust[1, 2] == trust[2, 1] == 0.0
    assert trust[0, 1] == trust[0, 2] == 1.0


def test_of_several_channels_the_one_that_tells_classes_apart_is_used() -> None:
    alone, _ = scan_of([[10.0], [20.0], [20.0]])
    both, _ = scan_of([[10.0, 5.0], [20.0, 5.0], [20.0, 15.0]])
    assert fit(alone).trust[1, 2] == 0.0
    fitted = fit(both)
    assert fitted.trust[1, 2] == 1.0
    assert fitted.means[:2] == pytest.approx(np.array([[20.0, 5.0], [20.0, 15.0]]), abs=0.15)


def test_a_smooth_bias_is_taken_out() -> None:
    samples, truth = scan_of([[10.0], [30.0], [40.0]], bias=0.3)
    fitted = fit(samples)
    unbiased = fitted.unbiased(samples.intensities, samples.places)
    before, after = (
        [float(x[truth == k].std() / x[truth == k].mean()) for k in (1, 2)]
        for x in (samples.intensities, unbiased)
    )
    assert min(before) > 0.15
    assert max(after) < 0.05


def test_a_strong_bias_of_many_waves_is_taken_out() -> None:
    samples, truth = scan_of([[10.0], [30.0], [40.0]])
    x, y, z = samples.places.T
    gain = np.exp(0.4 * np.sin(2.5 * x + y) * np.cos(2 * y - z))
    fitted = fit(Samples(samples.intensities * gain[:, None], samples.places, samples.prior))
    unbiased = fitted.unbiased(samples.intensities * gain[:, None], samples.places)
    for n in (1, 2):
        seen = unbiased[truth == n]
        assert float(seen.std() / seen.mean()) < 0.06


def test_a_background_of_several_tissues_has_a_gaussian_for_each() -> None:
    """One for both would be at its likeliest between them, where no background lies."""
    rng = np.random.default_rng(1)
    samples, truth = scan_of([[0.0], [50.0]])
    fluid = (truth == 0) & (rng.random(len(truth)) < 0.5)
    samples.intensities[fluid] += 100
    fitted = fit(samples)
    at = np.array([[0.0], [50.0], [100.0]])
    nats = fitted.log_likelihoods(at, np.zeros((1, 3), np.int64))[0]
    assert nats[1] < min(nats[0], nats[2]) - 2


def test_a_class_that_hardly_occurs_is_never_trusted() -> None:
    samples, truth = scan_of([[10.0], [20.0], [30.0]], surely=1.0 - 1e-9)
    few = np.flatnonzero(truth == 2)[5:]
    kept = np.setdiff1d(np.arange(len(truth)), few)
    fitted: Appearance = fit(
        Samples(samples.intensities[kept], samples.places[kept], samples.prior[kept])
    )
    assert not fitted.trust[2].any()
    assert not fitted.trust[:, 2].any()
    assert fitted.trust[0, 1] == 1.0
