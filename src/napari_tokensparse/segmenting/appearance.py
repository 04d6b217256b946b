"""How each class looks in one scan: Gaussians of intensity and a smooth bias, fitted by EM.

The prior of a voxel is what the network says; a Gaussian of intensity for each class, several for
the background, and a smooth multiplicative bias are fitted to the scan in turns (Van Leemput et
al., IEEE TMI 18, 1999; Puonti et al., NeuroImage 143, 2016). How far the data may overrule the
prior depends on how well they tell two classes apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import legendre

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

_ROUNDS = 12
_DEGREE = 5  # of the bias, over all axes together
_DEGREES = [d for d in product(range(_DEGREE + 1), repeat=3) if 0 < sum(d) <= _DEGREE]
_BACKGROUNDS = 5  # what is no class may be air, fluid, vessels, fat, bone
_PURITY = 2.0  # power of the prior at first: a class is best seen where it is surest
_POOLED_VOXELS = 200.0  # that a class's own variance is worth as much as that of all
_POOLED = 0.5  # share, in logs, of the variance of all classes in each
_LEAST_VARIANCE = 1e-4  # of the scan's own
_FEWEST = 10.0  # voxels of a class below which nothing is known of it
_RIDGE = 1e-4
_GAINS = (0.3, 3.0)
_APART = (0.5, 1.0)  # standard deviations between classes: the data say nothing, or all they can
_WORST = 18.0  # nats that a voxel may speak against a class


@dataclass(frozen=True, eq=False)
class Samples:
    """Voxels of one scan.

    Attributes
    ----------
    intensities
        ``(S, C)``.
    places
        ``(S, 3)``: where in the volume, each axis from -1 to 1.
    prior
        ``(S, K)`` share of each class, background first; rows add up to 1.
    """

    intensities: Floats
    places: Floats
    prior: Floats


@dataclass(frozen=True, eq=False)
class Appearance:
    """Gaussians of intensity, of which the first K - 1 are those of the classes, and a bias.

    Attributes
    ----------
    means, variances
        ``(G, C)``, of intensities without the bias.
    shares
        ``(G - K + 1,)``: how much of the background each of its Gaussians makes up.
    bias
        ``(C, 6, 6, 6)``: coefficients of Legendre polynomials of a place; their sum is its gain.
    trust
        ``(K, K)``: from 0, the intensities do not tell two classes apart, to 1.
    """

    means: Floats
    variances: Floats
    shares: Floats
    bias: Floats
    trust: Floats

    def unbiased(self, intensities: Floats, places: Floats) -> Floats:
        """Divide intensities ``(N, C)`` by the gain of their places ``(N, 3)``."""
        x, y, z = places.T
        gain = np.stack([legendre.legval3d(x, y, z, each) for each in self.bias], axis=1)
        unbiased: Floats = intensities / np.clip(gain, *_GAINS)
        return unbiased

    def gains(self, shape: tuple[int, int, int]) -> Gains:
        """Return the gain of the bias at every voxel of a volume ``(i, j, k)``."""
        x, y, z = (
            legendre.legvander(at, _DEGREE).astype(self.bias.dtype) for at in map(_places, shape)
        )
        planes = np.einsum("cxyz,jy,kz->ckjx", self.bias, y, z, optimize=True)
        return Gains(x, planes.reshape(len(planes), -1, planes.shape[-1]))

    def log_likelihoods(self, unbiased: Floats, channels: NDArray[np.integer]) -> Floats:
        """Return how well some classes explain each voxel, in nats but for a constant.

        Parameters
        ----------
        unbiased
            ``(N, C)`` intensities.
        channels
            ``(n, N)`` classes of each voxel, 0 the background.
        """
        own = np.maximum(channels.astype(np.intp), 1) - 1
        nats = np.zeros(channels.shape, unbiased.dtype)
        spreads, logs = 0.5 / self.variances, 0.5 * np.log(self.variances)
        for x, mean, spread, log in zip(unbiased.T, self.means.T, spreads.T, logs.T, strict=True):
            apart = mean.take(own, mode="clip")  # which need not look for numbers out of range
            np.subtract(x, apart, out=apart)
            np.square(apart, out=apart)
            apart *= spread.take(own, mode="clip")
            apart += log.take(own, mode="clip")
            nats -= apart
        first = len(self.means) - len(self.shares)
        of_background = channels == 0
        some = of_background.any(axis=0)
        parts = np.log(self.shares)[:, None] + [
            _log_normal(unbiased[some], mean[None], variance[None])[:, 0]
            for mean, variance in zip(self.means[first:], self.variances[first:], strict=True)
        ]  # a row of each, along the voxels
        whole = np.zeros(len(unbiased), unbiased.dtype)
        whole[some] = _log_sum(parts, axis=0)
        np.copyto(nats, whole, where=of_background)
        return nats


@dataclass(frozen=True, eq=False)
class Gains:
    """Gain of the bias at every voxel of a volume, without an array of them all.

    Attributes
    ----------
    lines
        ``(i, 6)``: the Legendre polynomials along the first axis.
    planes
        ``(C, k * j, 6)``: their coefficients in each line of voxels along it.
    """

    lines: Floats
    planes: Floats

    def at(self, voxels: NDArray[np.integer]) -> Floats:
        """Return those ``(N, C)`` of voxels, numbered with the first axis fastest."""
        line, at = np.divmod(voxels, len(self.lines))
        along = self.lines.take(at, axis=0)
        each = [np.einsum("na,na->n", along, plane.take(line, axis=0)) for plane in self.planes]
        return np.stack(each, axis=1).clip(*_GAINS)


def places(voxels: NDArray[np.integer], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return where voxels lie ``(N, 3)``, as in `Samples`; the first axis numbers them fastest."""
    k, j, i = np.unravel_index(voxels, shape[::-1])
    axes = [_places(n)[at] for n, at in zip(shape, (i, j, k), strict=True)]
    return np.stack(axes, axis=1).astype(np.float32)


def _places(length: int) -> NDArray[np.float64]:
    """Return where the voxels of an axis lie, from -1 to 1."""
    return 2 * np.arange(length) / max(length - 1, 1) - 1


def fit(samples: Samples) -> Appearance:
    """Fit how the classes look.

    Parameters
    ----------
    samples
        Some ten thousand voxels, spread over the scan; of the classes and of what borders on them.
    """
    y = samples.intensities.astype(np.float64)
    functions = smooth_functions(samples.places.astype(np.float64))
    owners = np.array([*range(1, samples.prior.shape[1]), *[0] * _BACKGROUNDS])
    prior = samples.prior[:, owners].astype(np.float64)
    with np.errstate(divide="ignore"):
        log_prior = np.log(prior)
    posterior: Floats = prior**_PURITY
    posterior[:, owners == 0] *= _parted(y[:, 0], samples.prior[:, 0])
    bias: Floats = np.zeros((y.shape[1], functions.shape[1]))
    for last in [False] * _ROUNDS + [True]:
        unbiased = y / _gain(functions, bias)
        means, variances, shares = _estimated(unbiased, posterior, owners, y.var(axis=0))
        likelihood = _log_normal(unbiased, means, variances)
        likelihood[:, owners == 0] += np.log(shares)
        posterior = _normalised(log_prior + likelihood)
        if not last:
            bias = _fitted_bias(y, functions, posterior, means, variances)
    trust = _trust(posterior, likelihood, owners)
    # What is decided by it are millions of voxels: float32 is twice as fast.
    fields = (means, variances, shares, _cubes(bias), trust)
    return Appearance(*(each.astype(np.float32) for each in fields))


def smooth_functions(places: Floats) -> Floats:
    """Return ``(N, B)``: products of Legendre polynomials of each place ``(N, 3)``, but for 1."""
    x, y, z = (legendre.legvander(places[:, axis], _DEGREE) for axis in range(3))
    functions: Floats = np.stack([x[:, a] * y[:, b] * z[:, c] for a, b, c in _DEGREES], axis=1)
    return functions


def _cubes(bias: Floats) -> Floats:
    """Arrange coefficients ``(C, B)`` by their degree along each axis, and add 1."""
    cubes: Floats = np.zeros((len(bias), *[_DEGREE + 1] * 3))
    a, b, c = np.transpose(_DEGREES)
    cubes[:, a, b, c] = bias
    cubes[:, 0, 0, 0] = 1
    return cubes


def _gain(functions: Floats, bias: Floats) -> Floats:
    gain: Floats = np.clip(1 + functions @ bias.T, *_GAINS)
    return gain


def _parted(intensity: Floats, share: Floats) -> Floats:
    """Give each voxel to one of the background's Gaussians, by what it is nearest to."""
    of_it = intensity[share > 0.5] if (share > 0.5).any() else intensity
    middles = np.quantile(of_it, (np.arange(_BACKGROUNDS) + 0.5) / _BACKGROUNDS)
    nearest = np.abs(intensity[:, None] - middles).argmin(axis=1)
    parted: Floats = np.eye(_BACKGROUNDS)[nearest]
    return parted


def _estimated(
    x: Floats, posterior: Floats, owners: NDArray[np.integer], scale: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return means and variances, drawn towards that of all classes, and background's shares."""
    count = posterior.sum(axis=0)[:, None] + 1e-6
    means = posterior.T @ x / count
    own = posterior.T @ x**2 / count - means**2
    floor = np.maximum(_LEAST_VARIANCE * scale, np.finfo(np.float64).tiny)
    own = np.log(np.maximum(own, floor))
    classes = owners > 0
    pooled = np.log(np.average(np.exp(own[classes]), axis=0, weights=count[classes, 0]))
    drawn = (count * own + _POOLED_VOXELS * pooled) / (count + _POOLED_VOXELS)
    background = np.maximum(count[~classes, 0], 1e-6)
    return means, np.exp((1 - _POOLED) * drawn + _POOLED * pooled), background / background.sum()


def _fitted_bias(
    y: Floats, functions: Floats, posterior: Floats, means: Floats, variances: Floats
) -> Floats:
    """Return the bias by which the Gaussians explain the scan best: least squares, weighted."""
    coefficients = []
    for x, mean, variance in zip(y.T, means.T, variances.T, strict=True):
        expected, squared = posterior @ (mean / variance), posterior @ (mean**2 / variance)
        products = functions.T @ (functions * squared[:, None])
        ridge = _RIDGE * np.trace(products) / len(products) + np.finfo(np.float64).tiny
        products += ridge * np.eye(len(products))
        coefficients.append(np.linalg.solve(products, functions.T @ (x * expected - squared)))
    return np.array(coefficients)


def _trust(posterior: Floats, likelihood: Floats, owners: NDArray[np.integer]) -> Floats:
    """Return how far each pair of classes is told apart: by the distance of their Gaussians.

    The symmetric divergence of two Gaussians of one variance is the square of the distance of their
    means in standard deviations; here it is counted over the samples, with the background whole.
    """
    background = owners == 0
    shares = [posterior[:, background].sum(axis=1, keepdims=True), posterior[:, ~background]]
    of_background = _log_sum(likelihood[:, background])[:, None]
    each = np.concatenate([of_background, likelihood[:, ~background]], axis=1)
    each = np.maximum(each, each.max(axis=1, keepdims=True) - _WORST)
    weights = np.concatenate(shares, axis=1)
    count = weights.sum(axis=0)
    mean = weights.T @ each / (count[:, None] + 1e-6)
    beyond = np.diag(mean)[:, None] - mean
    apart = np.sqrt(np.maximum(beyond + beyond.T, 0))
    least, enough = _APART
    trust = np.clip((apart - least) / (enough - least), 0, 1)
    known = count >= _FEWEST
    pairs: Floats = trust * known * known[:, None]
    return pairs


def _log_normal(x: Floats, means: Floats, variances: Floats) -> Floats:
    """Return ``(N, G)`` nats of ``(N, C)`` under Gaussians, but for a constant."""
    densities = np.zeros((len(x), len(means)), x.dtype)
    apart: Floats = np.empty_like(densities)  # fresh memory is most of what arrays so large cost
    for each, mean, variance in zip(x.T, means.T, variances.T, strict=True):
        np.subtract(each[:, None], mean, out=apart)
        np.square(apart, out=apart)
        apart /= variance
        apart += np.log(variance)
        apart *= 0.5
        densities -= apart
    return densities


def _log_sum(nats: Floats, axis: int = 1) -> Floats:
    most = nats.max(axis=axis, keepdims=True)
    apart = nats - most
    np.exp(apart, out=apart)
    sums: Floats = np.log(apart.sum(axis=axis)) + most.squeeze(axis)
    return sums


def _normalised(nats: Floats) -> Floats:
    shares: Floats = nats - nats.max(axis=1, keepdims=True)
    np.exp(shares, out=shares)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares
