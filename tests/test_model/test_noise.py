import pytest
import torch

from napari_tokensparse.model.noise import bernoulli, exponential


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_a_samples_noise_does_not_depend_on_its_batch() -> None:
    together = exponential(torch.zeros(3, 50), generators(1, 2, 3))
    alone = [exponential(torch.zeros(1, 50), generators(seed)) for seed in (1, 2, 3)]
    assert torch.equal(together, torch.cat(alone))
    assert not torch.equal(together[0], together[1])


def test_one_generator_serves_the_whole_batch() -> None:
    (one,), (same,) = generators(5), generators(5)
    assert torch.equal(
        bernoulli(torch.zeros(4, 9), 0.5, one), torch.zeros(4, 9).bernoulli_(0.5, generator=same)
    )


def test_without_generators_the_global_one_is_used() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = exponential(torch.zeros(2, 3), None)
        torch.manual_seed(0)
        assert torch.equal(first, exponential(torch.zeros(2, 3), None))


def test_noise_has_its_distribution() -> None:
    drawn = exponential(torch.zeros(2, 20_000), generators(1, 2))
    assert drawn.mean().item() == pytest.approx(1.0, abs=0.02)
    ones = bernoulli(torch.zeros(2, 20_000), 0.3, generators(1, 2))
    assert ones.mean().item() == pytest.approx(0.3, abs=0.01)
    assert set(ones.unique().tolist()) == {0.0, 1.0}


def test_too_few_generators_are_refused() -> None:
    with pytest.raises(ValueError, match="2 generators for 3 samples"):
        exponential(torch.zeros(3, 2), generators(1, 2))
