"""What must hold of every batch: nothing sees what comes later, nothing but replies is learnt, nothing is lost."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mantus.model.config import resolve_size
from mantus.model.transformer import Transformer, init_weights
from mantus.training.objectives.batches import Conversations, Row, in_passes
from mantus.training.objectives.loss import IGNORE, NextToken

SHAPE = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_dim": 16}
MODEL = Transformer(resolve_size("nano", 128, **SHAPE))
init_weights(MODEL, 1)

row = st.integers(1, 60).flatmap(
    lambda size: st.tuples(
        st.lists(st.integers(1, 127), min_size=size, max_size=size),
        st.lists(st.booleans(), min_size=size, max_size=size),
    )
)


@settings(max_examples=30, deadline=None)
@given(ids=st.lists(st.integers(0, 127), min_size=2, max_size=40), data=st.data())
def test_a_token_changes_nothing_before_it(ids: list[int], data: st.DataObject):
    at = data.draw(st.integers(1, len(ids) - 1))
    other = [*ids[:at], (ids[at] + 1) % 128, *ids[at + 1 :]]
    with torch.no_grad():
        one, two = MODEL(torch.tensor([ids])), MODEL(torch.tensor([other]))
    assert torch.equal(one[:, :at], two[:, :at])
    assert not torch.equal(one[:, at], two[:, at])


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=30), batch_tokens=st.integers(32, 400), world=st.integers(1, 3))
def test_every_row_comes_once_an_epoch_with_its_own_targets(rows: list[Row], batch_tokens: int, world: int):
    source = Conversations(rows, batch_tokens, 1, 0)
    seen = []
    for step in range(source.steps_per_epoch):
        for rank in range(world):
            ids, targets = source.batch(step, rank, world)
            seen += [(one.tolist(), other.tolist()) for one, other in zip(ids, targets, strict=True)]
    expected = []
    for ids, trained in rows:
        learnt = [token if use else IGNORE for token, use in zip(ids[1:], trained[1:], strict=True)]
        expected.append((ids, learnt))
    stripped = [(ids[: len(learnt) + 1], learnt) for ids, learnt in (_stripped(*pair) for pair in seen) if any(ids)]
    assert sorted(ids for ids, _ in stripped) == sorted(ids for ids, _ in expected)
    assert sum(t != IGNORE for _, ts in seen for t in ts) == sum(t != IGNORE for _, ts in expected for t in ts)


def _stripped(ids: list[int], targets: list[int]) -> tuple[list[int], list[int]]:
    """A row without its padding, which is 0 and no token of these rows."""
    size = sum(1 for token in ids if token)
    return ids[:size], targets[: max(0, size - 1)]


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=8), micro_tokens=st.integers(0, 300))
def test_passes_add_up_to_the_batch(rows: list[Row], micro_tokens: int):
    batch = Conversations(rows, 4096, 1, 0).pad(rows)
    module = NextToken(MODEL, torch.float32)
    with torch.no_grad():
        whole = float(module(*batch))
        parts = sum(float(module(*part)) for part in in_passes(batch, micro_tokens, lambda number: number + 1))
    assert abs(whole - parts) <= 1e-3 * max(1.0, abs(whole))


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(row, min_size=1, max_size=4), token=st.integers(1, 126))
def test_a_prompt_token_leaks_into_no_gradient_as_a_target(rows: list[Row], token: int):
    """With nothing trained there is no loss; with one token trained the loss is that token's alone."""
    silent = [(ids, [False] * len(ids)) for ids, _ in rows]
    module = NextToken(MODEL, torch.float32)
    with torch.no_grad():
        assert float(module(*Conversations(silent, 4096, 1, 0).pad(silent))) == 0.0
        ids = [*rows[0][0], token]
        one = [(ids, [False] * (len(ids) - 1) + [True])]
        logits = MODEL(torch.tensor([ids]))[0, -2]
        alone = -torch.log_softmax(logits.float(), dim=0)[token]
        assert abs(float(module(*Conversations(one, 4096, 1, 0).pad(one))) - float(alone)) < 1e-3
