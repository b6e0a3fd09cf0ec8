"""Packed rows: every conversation once and whole, none sees another, and nothing but replies is learnt."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mantus.data.conversations.tooldata import ToolDataConfig
from mantus.data.conversations.tooldata import run as make_tooldata
from mantus.model.hf import load_model
from mantus.storage import fetch
from mantus.text.calls import format_call
from mantus.text.chat import calls_of
from mantus.text.tokenizer import Tokenizer
from mantus.training.objectives.batches import Conversations, Row, in_passes
from mantus.training.objectives.loss import IGNORE, NextToken, by_documents
from mantus.training.objectives.objective import Objective, make_objective
from mantus.training.objectives.packing import Packed, best_fit
from mantus.training.sft import SftConfig, run
from tests.training.test_properties import MODEL, row
from tests.training.test_training import losses

rows_of_many = st.lists(row, min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(1, 50), max_size=60))
def test_bins_hold_every_item_once_and_none_overflows(lengths: list[int]):
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    bins = best_fit(lengths, order, 50)
    assert sorted(item for chosen in bins for item in chosen) == list(range(len(lengths)))
    sums = [sum(lengths[item] for item in chosen) for chosen in bins]
    assert all(total <= 50 for total in sums)
    assert len(bins) <= 11 / 9 * -(-sum(lengths) // 50) + 4  # Johnson's bound, against a lower bound of the optimum
    assert all(one + other > 50 for n, one in enumerate(sums) for other in sums[:n])


def test_the_bin_with_the_least_room_is_chosen():
    assert best_fit([6, 5, 4, 4], [0, 1, 2, 3], 10) == [[0, 2], [1, 3]]
    assert best_fit([7, 5, 3], [0, 1, 2], 10) == [[0, 2], [1]]


@settings(max_examples=50, deadline=None)
@given(rows=rows_of_many, batch_tokens=st.integers(60, 400), world=st.integers(1, 3))
def test_every_conversation_comes_once_an_epoch_whole(rows: list[Row], batch_tokens: int, world: int):
    source = Packed(rows, 60, batch_tokens, 1, 0)
    seen = []
    for step in range(source.steps_per_epoch):
        for rank in range(world):
            ids, targets, documents = source.batch(step, rank, world)
            for flat in range(len(ids)):
                for number in documents[flat].unique():
                    here = documents[flat] == number
                    seen.append((ids[flat][here].tolist(), targets[flat][here].tolist()))
    found = sorted((ids, learnt) for ids, learnt in seen if any(ids))
    expected = [(ids, [t if use else IGNORE for t, use in zip(ids[1:], used[1:], strict=True)]) for ids, used in rows]
    assert found == sorted((ids, [*learnt, IGNORE]) for ids, learnt in expected)


@settings(max_examples=30, deadline=None)
@given(rows=rows_of_many, micro_tokens=st.integers(0, 300))
def test_no_conversation_sees_another(rows: list[Row], micro_tokens: int):
    """The loss of packed rows is that of the conversations one by one, whatever the passes."""
    packed = Packed(rows, 60, 10_000, 1, 0).batch(0)
    one_by_one = Conversations(rows, 10_000, 1, 0)
    module = NextToken(MODEL, torch.float32)
    with torch.no_grad():
        whole = sum(float(module(*part)) for part in in_passes(packed, micro_tokens, lambda number: number + 1))
        alone = sum(float(module(*one_by_one.pad([row]))) for row in rows)
    assert whole == pytest.approx(alone, rel=1e-4, abs=1e-3)


def test_documents_give_positions_and_lengths():
    positions, lengths = by_documents(torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 2, 3]]))
    assert positions.tolist() == [[0, 1, 0, 1, 2], [0, 1, 2, 0, 0]]
    assert lengths == [2, 3, 3, 1, 1]


@pytest.fixture(scope="module")
def talk(inputs: dict[str, str]) -> str:
    return make_tooldata(ToolDataConfig(store=inputs["store"], rows=40, heldout_rows=8, unseen_rows=0)).uri


TUNING = {"seq_len": 2048, "batch_tokens": 8192, "dtype": "fp32", "warmup": 2}


def objective_of(folder: Path, talk: str, pack: bool) -> Objective:
    settings = SftConfig(model="", data=[], pack=pack, **TUNING).model_dump()
    job = {"objective": "sft", "config": settings, "data": [str(fetch(talk))], "what": "sft"}
    return make_objective(job, load_model(folder), Tokenizer.load(folder), 0, 1)


@pytest.mark.parametrize("pack", [False, True])
def test_what_is_learnt_is_what_the_assistant_says_to_the_byte(pack: bool, inputs, trained, talk: str):
    """One prompt token more, or one token of an answer less, and the text read from the targets is another."""
    folder = fetch(trained.uri)
    tokenizer, objective = Tokenizer.load(folder), objective_of(folder, talk, pack)
    learnt = []
    for step in range(objective.steps):
        _, targets, *_ = objective.batch(step, 0, 1)
        for line in targets.tolist():
            text = tokenizer.decode(token for token in line if token != IGNORE)
            learnt += text.removesuffix("<|im_end|>").split("<|im_end|>") if text else []
    rows = [json.loads(line) for line in (fetch(talk) / "train.jsonl").read_text().splitlines()]
    replies = [message for row in rows for message in row["messages"] if message["role"] == "assistant"]
    said = ["\n".join(filter(None, [m["content"], *map(format_call, calls_of(m))])) for m in replies]
    assert objective.notes["too_long"] == 0
    assert sorted(learnt) == sorted(said)


@pytest.mark.slow
def test_packed_steps_are_fewer_and_the_same_for_two_processes(inputs, trained, talk: str, tmp_path: Path):
    given = {"model": trained.uri, "data": [talk], "log_every": 1, "optimizer": "adamw", **TUNING}
    packed = run(SftConfig(store=inputs["store"], **given, pack=True))
    shared = run(SftConfig(store=tmp_path.as_uri(), **given, pack=True, processes=2, micro_tokens=2048))
    assert losses(shared.uri) == pytest.approx(losses(packed.uri), rel=1e-4)
    assert packed.stats["steps"] < objective_of(fetch(trained.uri), talk, pack=False).steps


def test_packing_is_not_for_compiled_models():
    with pytest.raises(ValueError, match=r"pack: .* not both"):
        SftConfig.parse({"model": "file:///m", "data": [], "pack": True, "compile": True}, "sft")
