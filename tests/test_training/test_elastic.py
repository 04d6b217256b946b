import math

import pytest
import torch

from napari_tokensparse.model.encoder import TokenTrace
from napari_tokensparse.model.noise import keyed_generator
from napari_tokensparse.training.elastic import (
    keep_ratios_of_step,
    make_distillation,
    patch_shares,
    random_pins,
    score_loss,
    token_targets,
)
from napari_tokensparse.training.trainconfig import TrainConfig


def drawn(config: TrainConfig, steps: int = 2000) -> list[tuple[float, ...]]:
    return [keep_ratios_of_step(config, keyed_generator(0, step)) for step in range(steps)]


def test_keep_ratios_are_drawn_evenly_on_a_log_scale_within_the_range() -> None:
    ratios = [r for (r,) in drawn(TrainConfig(steps=1, keep_range=(0.05, 0.8)))]
    assert 0.05 <= min(ratios) < 0.055
    assert 0.75 < max(ratios) <= 0.8
    middle = math.sqrt(0.05 * 0.8)
    assert sum(r < middle for r in ratios) / 2000 == pytest.approx(0.5, abs=0.04)


def test_a_range_of_one_point_is_that_point() -> None:
    assert drawn(TrainConfig(steps=1, keep_range=(0.5, 0.5)), 1) == [(pytest.approx(0.5),)]
    ((published,),) = drawn(TrainConfig(steps=1, keep_range=(1 - 0.9, 1 - 0.9)), 1)
    assert int(1000 * published) == 99


def test_the_sandwich_has_both_ends_at_its_share_of_the_steps() -> None:
    steps = drawn(TrainConfig(steps=1, keep_range=(0.05, 1.0), sandwich=0.25))
    sandwiches = [ratios for ratios in steps if len(ratios) == 3]
    assert len(sandwiches) / 2000 == pytest.approx(0.25, abs=0.03)
    assert {(first, last) for first, _, last in sandwiches} == {(1.0, 0.05)}
    inner = [middle for _, middle, _ in sandwiches]
    assert sum(r < math.sqrt(0.05) for r in inner) / len(inner) == pytest.approx(0.5, abs=0.08)


def test_pins_lie_about_a_token_that_holds_something_or_on_such_alone() -> None:
    content = torch.zeros(6, 6, 6)
    content[1:3, 1:3, 1:3] = 0.5
    held = content.flatten() > 0
    drawn = [
        random_pins(content.flatten(), (6, 6, 6), 0.4, keyed_generator(0, n)) for n in range(1000)
    ]
    pinned = [pins > 0 for pins in drawn if pins.any()]
    assert {int(value) for pins in drawn for value in pins.unique()} == {0, 1}
    assert len(pinned) / 1000 == pytest.approx(0.4, abs=0.05)
    assert all((pins & held).any() for pins in pinned)
    alone = [pins for pins in pinned if not (pins & ~held).any()]
    assert 0.5 < len(alone) / len(pinned) < 0.75  # half, and balls of one or few tokens
    places = torch.stack(
        [axis.flatten() for axis in torch.meshgrid([torch.arange(6)] * 3, indexing="ij")], 1
    )
    widest = max(int((places[p].amax(0) - places[p].amin(0)).max()) for p in pinned)
    assert 4 <= widest <= 5  # from the corner of the held ones, 3.5 tokens away at most
    assert {int(pins.sum()) for pins in alone} >= {1, 4, 8}


def test_nothing_found_is_pinned_somewhere() -> None:
    drawn = [random_pins(torch.zeros(27), (3, 3, 3), 1.0, keyed_generator(0, n)) for n in range(40)]
    assert len({tuple(pins.nonzero().flatten().tolist()) for pins in drawn}) > 5


def test_distillation_is_the_cross_entropy_with_the_teachers_probabilities() -> None:
    logits = torch.tensor([[0.0, 1.0]]).view(1, 2, 1, 1, 1).requires_grad_()
    teacher = torch.tensor([[2.0, 0.0]]).view(1, 2, 1, 1, 1).requires_grad_()
    p = 1 / (1 + math.exp(-2.0))
    log_q = [-math.log(1 + math.e), 1 - math.log(1 + math.e)]
    loss = make_distillation("dice-ce")(logits, teacher)
    assert loss.item() == pytest.approx(-p * log_q[0] - (1 - p) * log_q[1])
    weighted = make_distillation("dice-ce", torch.tensor([1.0, 3.0]))(logits, teacher)
    assert weighted.item() == pytest.approx(-p * log_q[0] - 3 * (1 - p) * log_q[1])
    loss.backward()
    assert logits.grad is not None and teacher.grad is None

    regions = make_distillation("dice")(logits.detach(), teacher)
    q = 1 / (1 + math.exp(-1.0))
    expected = [math.log(2), -0.5 * math.log(q) - 0.5 * math.log(1 - q)]
    assert regions.item() == pytest.approx(sum(expected) / 2)


def test_a_patch_counts_by_its_shares_of_what_is_to_be_found() -> None:
    # Four patches of 4 x 4 x 4 along w. Class 1 has 8 voxels, all in the second patch; class 2 has
    # 16 there and 48 in the third; the fourth is air.
    labels = torch.zeros(1, 4, 16, 4, dtype=torch.int64)
    labels[:, :2, 4:5] = 1
    labels[:, :, 7:11] = 2
    content, labelled = token_targets(labels, 4, 3)
    shares = [0.0, 8 / 8 + 16 / 64, 48 / 64, 0.0]
    expected = [math.sqrt(share / shares[1]) for share in shares]
    assert content[0].tolist() == pytest.approx(expected)
    assert labelled.tolist() == [[1.0] * 4]
    # The same as regions, and a class that is nowhere changes nothing.
    regions = torch.stack([labels == 1, labels == 2, labels == 3], dim=1).long()
    assert token_targets(regions, 4, 3)[0][0].tolist() == pytest.approx(expected)
    assert token_targets(labels, 4, 9)[0].tolist() == content.tolist()


def test_patches_lie_in_grid_order() -> None:
    labels = torch.zeros(1, 8, 12, 16, dtype=torch.int64)
    labels[0, 4:8, 8:12, 4:8] = 1  # token (1, 2, 1) of the grid (2, 3, 4)
    content, _ = token_targets(labels, 4, 2)
    assert content[0].nonzero().flatten().tolist() == [1 * 12 + 2 * 4 + 1]


def test_unlabelled_voxels_do_not_count() -> None:
    labels = torch.full((1, 4, 8, 4), -1)
    labels[:, :, :2] = 1  # half of the first patch, and nothing of the second
    content, labelled = token_targets(labels, 4, 2)
    assert content.tolist() == [[1.0, 0.0]]
    assert labelled.tolist() == [[0.5, 0.0]]


def test_a_window_of_nothing_holds_nothing() -> None:
    assert token_targets(torch.zeros(1, 4, 4, 4).long(), 4, 2)[0].tolist() == [[0.0]]


def test_the_score_loss_is_the_cross_entropy_of_the_live_tokens_of_each_stage() -> None:
    # Token 2 is pruned at stage 1, token 0 at stage 2, token 1 is kept; token 1 is unlabelled.
    first, second = [0.2, 0.9, 0.4], [0.6, 0.7]
    trace = TokenTrace(
        (torch.tensor([first]).log(), torch.tensor([second]).log()),
        (torch.tensor([[2]]), torch.tensor([[0]])),
        torch.tensor([[1]]),
    )
    content, labelled = torch.tensor([[1.0, 0.3, 0.25]]), torch.tensor([[1.0, 0.0, 0.5]])

    def entropy(importance: float, wanted: float) -> float:
        return -wanted * math.log(importance) - (1 - wanted) * math.log(1 - importance)

    stage_1 = (entropy(0.2, 1.0) + 0.5 * entropy(0.4, 0.25)) / 1.5
    stage_2 = entropy(0.6, 1.0)
    loss = score_loss(trace, content, labelled)
    assert loss.item() == pytest.approx((stage_1 + stage_2) / 2, rel=1e-5)


def test_the_score_loss_is_finite_for_certain_tokens_and_without_stages() -> None:
    scores = torch.tensor([[0.0, -200.0]], requires_grad=True)
    trace = TokenTrace((scores,), (torch.tensor([[0]]),), torch.tensor([[1]]))
    loss = score_loss(trace, torch.tensor([[0.0, 1.0]]), torch.ones(1, 2))
    loss.backward()
    assert math.isfinite(loss.item()) and scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    dense = TokenTrace((), (), torch.tensor([[0, 1]]))
    assert score_loss(dense, torch.ones(1, 2), torch.ones(1, 2)).item() == 0.0


def test_shares_of_classes_count_without_their_background() -> None:
    labels = torch.zeros(1, 4, 16, 4, dtype=torch.int64)
    labels[:, :2, 4:5] = 1
    labels[:, :, 7:11] = 2
    shares = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).half()
    for one, other in zip(token_targets(shares, 4, 3), token_targets(labels, 4, 3), strict=True):
        assert torch.allclose(one, other)
    of_patch, labelled = patch_shares(shares, 4, 3)
    assert of_patch[0, :, 1].tolist() == [1 - 24 / 64, 8 / 64, 16 / 64]
    assert torch.equal(of_patch, patch_shares(labels, 4, 3)[0]) and labelled.min() == 1
