import pytest
import torch
from monai.losses.dice import DiceCELoss
from torch.nn import functional as F

from napari_tokensparse.training.losses import make_loss


def random_batch(count: int = 3, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(count, classes, 6, 5, 4, generator=generator)
    return logits, torch.randint(0, classes, (count, 6, 5, 4), generator=generator)


def dice_loss(probabilities: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The paper's: squared denominator, mean over classes, of one window ``(K, n)``."""
    overlap = 2 * (probabilities * truth).sum(dim=1)
    size = probabilities.square().sum(dim=1) + truth.square().sum(dim=1)
    return (1 - overlap / (size + 1e-6)).mean()


def by_hand(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Dice + cross-entropy over the labelled voxels of one window ``(K, h, w, d)``."""
    known = target.flatten() >= 0
    flat, truth = logits.flatten(1)[:, known], target.flatten()[known]
    onehot = F.one_hot(truth, len(logits)).T.float()
    return dice_loss(flat.softmax(dim=0), onehot) + F.cross_entropy(flat.T, truth)


def test_exclusive_classes_get_dice_and_cross_entropy() -> None:
    logits, target = random_batch()
    expected = torch.stack([by_hand(x, t) for x, t in zip(logits, target, strict=True)]).mean()
    assert make_loss("dice-ce")(logits, target).item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_it_is_monais_loss_and_gradient_in_any_layout(layout: torch.memory_format) -> None:
    logits, target = random_batch(1, classes=4)  # of which one is not there
    target[target == 3] = 0
    monais = DiceCELoss(
        to_onehot_y=True, softmax=True, squared_pred=True, smooth_nr=0.0, smooth_dr=1e-6
    )
    given = logits.contiguous(memory_format=layout).requires_grad_()
    loss, wanted = make_loss("dice-ce")(given, target), monais(given, target[:, None])
    torch.testing.assert_close(loss, wanted)
    grads = [torch.autograd.grad(each, given)[0] for each in (loss, wanted)]
    torch.testing.assert_close(*grads)


def test_unlabelled_voxels_count_for_nothing() -> None:
    logits, target = random_batch()
    target[:, :3] = -1
    expected = torch.stack([by_hand(x, t) for x, t in zip(logits, target, strict=True)]).mean()
    loss = make_loss("dice-ce")
    assert loss(logits, target).item() == pytest.approx(expected.item(), abs=1e-5)
    other = logits.clone()
    other[:, :, :3] += 5 * torch.randn_like(other[:, :, :3])
    assert loss(other, target).item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_window_without_any_label_gives_zero_and_no_gradient() -> None:
    logits, target = random_batch(1)
    logits.requires_grad_()
    loss = make_loss("dice-ce")(logits, torch.full_like(target, -1))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None and not logits.grad.any()


def test_the_loss_of_a_batch_is_the_mean_over_its_windows_whatever_they_hold() -> None:
    logits, target = random_batch()
    target[0, :4] = -1
    target[1] = 2
    loss = make_loss("dice-ce", torch.tensor([0.2, 1.0, 1.8]))
    alone = [loss(logits[n : n + 1], target[n : n + 1]).item() for n in range(3)]
    assert loss(logits, target).item() == pytest.approx(sum(alone) / 3, abs=1e-6)


def test_class_weights_tilt_the_cross_entropy() -> None:
    logits, target = random_batch(1)
    weights = torch.tensor([0.1, 1.0, 1.9])
    even, tilted = make_loss("dice-ce"), make_loss("dice-ce", weights)
    difference = tilted(logits, target) - even(logits, target)
    expected = F.cross_entropy(logits, target, weights) - F.cross_entropy(logits, target)
    assert difference.item() == pytest.approx(expected.item(), abs=1e-6)


def test_regions_get_the_dice_of_their_sigmoids() -> None:
    logits, _ = random_batch()
    masks = (logits + torch.randn_like(logits) > 0).float()
    pairs = zip(logits.flatten(2), masks.flatten(2), strict=True)
    expected = torch.stack([dice_loss(x.sigmoid(), m) for x, m in pairs]).mean()
    assert make_loss("dice")(logits, masks).item() == pytest.approx(expected.item(), abs=1e-5)


def shares_of(target: torch.Tensor, classes: int) -> torch.Tensor:
    return F.one_hot(target, classes).movedim(-1, 1)


def test_shares_of_whole_voxels_give_the_loss_of_their_classes() -> None:
    logits, target = random_batch(2, classes=4)
    weights = torch.tensor([0.2, 0.7, 1.0, 2.1])
    loss = make_loss("dice-ce", weights)
    for kind in (torch.float16, torch.float32):
        value = loss(logits, shares_of(target, 4).to(kind))
        assert value.item() == pytest.approx(loss(logits, target).item(), abs=1e-6)


def test_shares_are_met_by_probabilities_alike() -> None:
    generator = torch.Generator().manual_seed(2)
    shares = torch.rand(1, 3, 4, 4, 4, generator=generator).softmax(dim=1)
    loss, entropy = make_loss("dice-ce"), -(shares * shares.log()).sum() / 64
    assert loss(shares.log(), shares).item() == pytest.approx(entropy.item(), abs=1e-5)  # Dice 0
    assert loss(shares.log() + 0.5 * torch.randn_like(shares), shares) > entropy
