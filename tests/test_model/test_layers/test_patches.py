import pytest
import torch

from napari_tokensparse.model.layers.patches import add_patches, cut_patches

GRID = (2, 3, 4)


@pytest.mark.parametrize("rim", [0, 1, 2])
def test_patches_are_cut_out_with_the_rim_that_the_maps_have(rim: int) -> None:
    maps = torch.randn(2, 3, *(4 * n + 2 * rim for n in GRID))
    places = torch.tensor([[0, 7, 23], [5, 12, 13]])
    cut = cut_patches(maps, places, GRID, 4)
    assert cut.shape == (6, 3, *(4 + 2 * rim,) * 3)
    h, w, d = 4 * 0, 4 * 1, 4 * 3  # token 7
    size = 4 + 2 * rim
    assert torch.equal(cut[1], maps[0, :, h : h + size, w : w + size, d : d + size])
    h, w, d = 4 * 1, 4 * 0, 4 * 1  # token 13
    assert torch.equal(cut[5], maps[1, :, h : h + size, w : w + size, d : d + size])
    assert cut.movedim(1, -1).is_contiguous()


def test_added_patches_lie_in_their_tokens_alone() -> None:
    maps = torch.randn(2, 3, 8, 12, 16)
    places = torch.tensor([[0, 7, 23], [5, 12, 13]])
    patches = torch.randn(6, 3, 4, 4, 4)
    added = add_patches(maps, patches, places, GRID)
    torch.testing.assert_close(
        cut_patches(added, places, GRID, 4), cut_patches(maps, places, GRID, 4) + patches
    )
    others = torch.tensor([sorted({*range(24)} - {*row}) for row in places.tolist()])
    assert torch.equal(cut_patches(added, others, GRID, 4), cut_patches(maps, others, GRID, 4))
