from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Start every test with the same weights, and leave the global generator as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
