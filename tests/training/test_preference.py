"""Pairs of replies: made from conversations, and learnt from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mantus.data.conversations.preferences import pairs_of
from mantus.data.conversations.tooldata import ToolDataConfig
from mantus.data.conversations.tooldata import run as make_tooldata
from mantus.model.config import resolve_size
from mantus.model.hf import load_model
from mantus.model.transformer import Transformer, init_weights
from mantus.storage import fetch
from mantus.text.calls import check_call
from mantus.text.chat import calls_of
from mantus.text.tokenizer import Tokenizer
from mantus.training.dpo import DpoConfig, run
from mantus.training.objectives.objective import make_objective
from mantus.training.objectives.preference import Pairs, Preference


@pytest.fixture(scope="module")
def talk(inputs: dict[str, str]) -> str:
    return make_tooldata(ToolDataConfig(store=inputs["store"], rows=60, heldout_rows=12, unseen_rows=0)).uri


def rows_of(uri: str, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (fetch(uri) / name).read_text().splitlines()]


def test_each_worse_reply_is_wrong_in_its_way(talk: str):
    kinds = set()
    for number, row in enumerate(rows_of(talk, "train.jsonl")):
        for pair in pairs_of(row, str(number)):
            kinds.add(pair.kind)
            assert pair.messages[-1]["role"] in ("user", "tool")
            right, wrong = calls_of(pair.chosen), calls_of(pair.rejected)
            assert right != wrong or pair.chosen["content"] != pair.rejected["content"]
            if pair.kind == "other tool":
                assert wrong[0].name != right[0].name
            if pair.kind == "wrong argument":
                assert wrong[0].name == right[0].name
                assert check_call(wrong[0], pair.tools) == ""
            if pair.kind == "needless call":
                assert (bool(right), bool(wrong)) == (False, True)
            if pair.kind == "no call":
                assert (bool(right), bool(wrong)) == (True, False)
    assert kinds == {"other tool", "wrong argument", "no call", "needless call"}


def test_given_pairs_stay_as_they_are():
    row = {"messages": [{"role": "user", "content": "hi"}], "chosen": {"content": "a"}, "rejected": {"content": "b"}}
    [pair] = pairs_of(row, "0")
    assert (pair.chosen, pair.rejected, pair.kind) == (row["chosen"], row["rejected"], "given")


def test_likelihoods_and_margins_are_torchs():
    torch.manual_seed(0)
    model = Transformer(resolve_size("nano", 320, num_layers=1, hidden_size=64, num_heads=2, num_kv_heads=1))
    init_weights(model, 1)
    module = Preference(model, torch.float32, beta=0.5)
    pairs = [
        (([5, 6, 7, 8], [False, False, True, True]), ([5, 6, 9], [False, False, True])),
        (([1, 2, 3], [False, True, True]), ([1, 4], [False, True])),
    ]
    source = Pairs(pairs, 4096, 1, 0)
    ids, targets, known = source.collate([0, 1])
    logs = torch.log_softmax(model(ids).float(), dim=-1)
    expected = [logs[0, 1, 7] + logs[0, 2, 8], logs[1, 1, 9], logs[2, 0, 2] + logs[2, 1, 3], logs[3, 0, 4]]
    assert torch.allclose(module.log_likelihoods(ids, targets), torch.stack(expected), atol=1e-4)
    source.ask(module)
    known = source.collate([0, 1])[2]
    assert torch.allclose(known, torch.stack(expected).detach(), atol=1e-4)
    assert torch.allclose(module(ids, targets, known), 2 * torch.log(torch.tensor(2.0)))
    module(ids, targets, known).backward()
    assert float(model.lm_head.weight.grad.abs().sum()) > 0


LONG: dict[str, Any] = {"seq_len": 1024, "batch_tokens": 8192, "dtype": "fp32", "warmup": 5}
"""The tests' vocabulary is small, and a conversation in it long."""


def margins(model: Path, base: Path, talk: str) -> torch.Tensor:
    """Of the held-out pairs, by the phase's own data."""
    settings = DpoConfig(model="", data=[], **LONG).model_dump()
    job = {"objective": "dpo", "config": settings, "data": [str(fetch(talk))], "what": "dpo"}
    objective = make_objective(job, load_model(base), Tokenizer.load(base), 0, 1)
    tuned = Preference(load_model(model), torch.float32, settings["beta"])
    with torch.no_grad():
        return torch.cat([tuned.margins(*batch) for batch in objective.held_out()])


@pytest.mark.slow
def test_the_margin_of_held_out_pairs_rises(inputs, trained, talk: str):
    tuned = run(DpoConfig(store=inputs["store"], model=trained.uri, data=[talk], lr=3e-3, steps=40, **LONG))
    before, after = (margins(fetch(uri), fetch(trained.uri), talk) for uri in (trained.uri, tuned.uri))
    assert before.abs().max() < 1e-3
    assert after.mean() > 0.05
    assert (after > 0).float().mean() > 0.6
    assert tuned.stats["heldout_loss"] < 0.69
