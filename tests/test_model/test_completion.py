from typing import Any

import pytest
import torch
from torch import nn

from napari_tokensparse.model.completion import (
    MaskTokenCompletion,
    MultiLayerTokenAssembly,
    NoCompletion,
    make_completion,
)
from napari_tokensparse.model.encoder import SparseTokens, TokenTrace
from napari_tokensparse.model.presets import preset
from napari_tokensparse.model.tokens import sincos_table, take

COUNTS = [(32, 16, 8, 8), (0, 0, 0, 64), (58, 5, 1, 0), (64, 0, 0, 0)]


def split(dense: torch.Tensor, counts: tuple[int, ...]) -> tuple[SparseTokens, TokenTrace]:
    """Split ``(B, 65, E)`` at random into three stages' pruned tokens and the final ones."""
    order = torch.stack([torch.randperm(64) for _ in dense])
    ids = [part.sort(dim=1).values for part in order.split(list(counts), dim=1)]
    pieces = [take(dense[:, 1:], part) for part in ids]
    sparse = SparseTokens(tuple(pieces[:-1]), torch.cat([dense[:, :1], pieces[-1]], dim=1))
    return sparse, TokenTrace((), tuple(ids[:-1]), ids[-1])


def bare(completion: Any) -> Any:
    """Leave nothing but the assembly: no position table, no blocks, no norm, no Linear."""
    completion.position_table.zero_()
    completion.blocks = nn.ModuleList()
    completion.out_norm = completion.out_linear = nn.Identity()
    return completion.requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mta", MultiLayerTokenAssembly),
        ("mta-no-linear", MultiLayerTokenAssembly),
        ("mta-mlp", MultiLayerTokenAssembly),
        ("mask-token", MaskTokenCompletion),
    ],
)
def test_a_config_names_its_completion(name: str, kind: type) -> None:
    completion = make_completion(preset("nano", completion=name))
    assert type(completion) is kind
    linears = getattr(completion, "source_linears", [nn.Linear(1, 1)])
    assert all(isinstance(x, nn.Identity) == (name == "mta-no-linear") for x in linears)


def test_the_dense_baseline_completes_nothing() -> None:
    dense = make_completion(preset("nano", prune_after=(), keep_ratio=(), completion="none"))
    assert isinstance(dense, NoCompletion)
    final = torch.randn(2, 65, 24)
    nothing = TokenTrace((), (), torch.arange(64).expand(2, -1))
    assert torch.equal(dense(SparseTokens((), final), nothing), final[:, 1:])


@pytest.mark.parametrize(("name", "alone"), [("mta", False), ("mta-mlp", True)])
def test_only_blocks_without_attention_leave_each_token_to_itself(name: str, alone: bool) -> None:
    completion = make_completion(preset("nano", completion=name)).eval()
    dense = torch.randn(1, 65, 24)
    other = dense.clone()
    other[:, 1 + 7] += 1.0
    both = []
    for tokens in (dense, other):
        torch.manual_seed(0)  # the same split
        both.append(completion(*split(tokens, COUNTS[0])))
    changed = (both[0] != both[1]).any(dim=-1)[0]
    assert changed[7]
    assert changed.sum().item() == (1 if alone else 64)


@pytest.mark.parametrize("forgotten", [1, 2])
def test_forgotten_tokens_leave_their_place_and_their_stages_mark(forgotten: int) -> None:
    config = preset("nano", completion="mta-no-linear", forgotten_stages=forgotten)
    completion = bare(MultiLayerTokenAssembly(config))
    dense = torch.randn(2, 65, 24)
    sparse, trace = split(dense, COUNTS[0])
    given = completion(sparse, trace)
    for stage, ids in enumerate((*trace.pruned, trace.kept)):
        mark, own = completion.layer_tokens[stage], take(dense[:, 1:], ids)
        expected = mark.expand_as(own) if stage < forgotten else own + mark
        assert torch.equal(take(given, ids), expected)


@pytest.mark.parametrize("counts", COUNTS)
def test_without_linears_tokens_come_back_as_they_went_but_for_their_mark(
    counts: tuple[int, ...],
) -> None:
    completion = bare(MultiLayerTokenAssembly(preset("nano", completion="mta-no-linear")))
    dense = torch.randn(2, 65, 24)
    sparse, trace = split(dense, counts)
    marks = torch.zeros_like(dense[:, 1:])
    for ids, mark in zip((*trace.pruned, trace.kept), completion.layer_tokens, strict=True):
        marks.scatter_(1, ids[..., None].expand(-1, -1, 24), mark.expand(*ids.shape, -1))
    assert torch.equal(completion(sparse, trace), dense[:, 1:] + marks)
    for mark in completion.layer_tokens:
        mark.zero_()
    assert torch.equal(completion(sparse, trace), dense[:, 1:])


@pytest.mark.parametrize("counts", COUNTS)
def test_mask_tokens_stand_wherever_a_token_was_pruned(counts: tuple[int, ...]) -> None:
    completion = bare(MaskTokenCompletion(preset("nano", completion_dim=12)))
    sparse, trace = split(torch.randn(2, 65, 24), counts)
    completed = completion(sparse, trace)
    final = completion.in_linear(completion.in_norm(sparse.final))[:, 1:]
    for row in range(2):
        for n in range(64):
            at = (trace.kept[row] == n).nonzero().flatten().tolist()
            expected = final[row, at[0]] if at else completion.mask_token[0, 0]
            assert torch.allclose(completed[row, n], expected, atol=1e-6)


def test_mask_tokens_ignore_what_was_pruned() -> None:
    completion = MaskTokenCompletion(preset("nano"))
    sparse, trace = split(torch.randn(1, 65, 24), COUNTS[0])
    other = SparseTokens(tuple(torch.randn_like(p) for p in sparse.pruned), sparse.final)
    assert torch.equal(completion(sparse, trace), completion(other, trace))


@pytest.mark.parametrize("name", ["mta", "mask-token"])
def test_the_position_table_is_added_before_the_blocks(name: str) -> None:
    completion: Any = make_completion(preset("nano", completion=name, completion_dim=12))
    completion.blocks = nn.ModuleList()
    completion.out_norm = completion.out_linear = nn.Identity()
    sparse, trace = split(torch.randn(1, 65, 24), COUNTS[0])
    gap = completion(sparse, trace) - completion.assemble(sparse, trace)[:, 1:]
    assert torch.allclose(gap, sincos_table((4, 4, 4), 12)[:, 1:], atol=1e-6)


@pytest.mark.parametrize("name", ["mta", "mask-token"])
def test_the_blocks_let_every_completed_token_see_every_other(name: str) -> None:
    completion: Any = make_completion(preset("nano", completion=name, completion_depth=2))
    assert len(completion.blocks) == 2
    sparse, trace = split(torch.randn(1, 65, 24), COUNTS[0])
    changed = sparse.final.clone()
    changed[:, 1] += torch.randn(24)
    gap = completion(SparseTokens(sparse.pruned, changed), trace) - completion(sparse, trace)
    assert torch.all(gap.abs().amax(dim=-1) > 0)
