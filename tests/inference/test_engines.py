"""All engines keep one contract, on the same real tiny model."""

import json
import mmap
import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch

from mantus.inference.engine import Engine, Sampling, Token, open_engine
from mantus.inference.pipeline import Stepper, drop_pages
from mantus.inference.start import check_memory, examine, self_test, start_engine
from mantus.inference.torch.decode import Decoding
from mantus.inference.torch.engine import TorchEngine
from mantus.inference.torch.onnx import OnnxEngine
from mantus.model.hf import load_model
from mantus.model.transformer import generate
from mantus.release.export import export_onnx
from mantus.release.source import open_source
from mantus.storage import fetch
from mantus.text.calls import Call, check_call, parse
from mantus.text.grammar import Constraint, schema_constraint, tool_constraint
from mantus.text.tokenizer import Tokenizer

TEXT = "It was a bright cold day, and the clocks"
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "who": {"type": "string", "maxLength": 20}},
            "required": ["a", "who"],
        },
    },
}


@pytest.fixture(scope="module")
def release(released) -> Path:
    return fetch(released.uri)


@pytest.fixture(scope="module")
def onnx(release: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "onnx-int8"
    export_onnx(open_source(release / "hf"), folder, [], ())
    return folder


@pytest.fixture(scope="module", params=["openvino-int8", "hf", "onnx-int8"])
def engine(request, release: Path) -> Iterator[Engine]:
    folder = request.getfixturevalue("onnx") if request.param == "onnx-int8" else release / request.param
    opened = open_engine(folder, threads=1, cache_gib=0.25)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def tokenizer(release: Path) -> Tokenizer:
    return Tokenizer.load(release / "hf")


@pytest.fixture(scope="module")
def prompt(tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(TEXT)


def ids(reply: list[Token]) -> list[int]:
    return [token.id for token in reply]


def test_greedy_is_the_models_own(engine: Engine, release: Path, prompt: list[int]):
    (reply,) = engine.complete([prompt], Sampling(max_tokens=20, ignore_stop=True))
    assert ids(reply) == generate(load_model(release / "hf"), prompt, 20)
    assert [token.finish for token in reply] == [""] * 19 + ["length"]


def test_mates_in_a_batch_change_nothing(engine: Engine, prompt: list[int]):
    prompts = [prompt, prompt[:3], prompt + prompt, prompt[2:]]
    sampling = Sampling(max_tokens=12, ignore_stop=True)
    together = engine.complete(prompts, sampling)
    assert [ids(reply) for reply in together] == [ids(engine.complete([one], sampling)[0]) for one in prompts]


def test_scores_of_prompts(engine: Engine, release: Path, prompt: list[int]):
    long = prompt * 40  # beyond one stretch
    with torch.no_grad():
        logprobs = load_model(release / "hf")(torch.tensor([long]))[0].log_softmax(-1)
    scored = engine.prompt_scores(long, 3)
    assert [one.logprob for one in scored] == pytest.approx(
        [float(logprobs[at, token]) for at, token in enumerate(long[1:])], abs=0.1
    )
    agreed = [one.top[0][0] == int(logprobs[at].argmax()) for at, one in enumerate(scored)]
    assert sum(agreed) / len(agreed) > 0.95
    assert all(len(one.top) == 3 and one.top[0][1] >= one.top[1][1] >= one.top[2][1] for one in scored)
    whole_TV = engine.logprobs(prompt)
    assert [float(whole_TV[at, token]) for at, token in enumerate(prompt[1:])] == pytest.approx(
        [one.logprob for one in engine.prompt_scores(prompt, 0)], abs=0.1
    )
    assert engine.score([prompt])[0] == pytest.approx([one.logprob for one in engine.prompt_scores(prompt, 0)], abs=0.1)


def test_embeddings_are_the_mean_of_the_last_layer(engine: Engine, release: Path, prompt: list[int]):
    if isinstance(engine, OnnxEngine):
        with pytest.raises(ValueError, match="embeddings: this engine makes none"):
            engine.embed(prompt)
        return
    long = prompt * 40  # beyond one stretch
    for ids in (long, prompt[:1]):
        with torch.no_grad():
            mean = load_model(release / "hf").hidden(torch.tensor([ids]))[0].mean(0)
        vector = torch.tensor(engine.embed(ids))
        assert float(vector.norm()) == pytest.approx(1, abs=1e-4)
        assert float(vector @ (mean / mean.norm())) == pytest.approx(1, abs=2e-3)


def test_a_seed_decides(engine: Engine, prompt: list[int]):
    def sampled(seed: int) -> list[int]:
        return ids(engine.complete([prompt], Sampling(max_tokens=16, temperature=1.5, seed=seed, ignore_stop=True))[0])

    assert sampled(1) == sampled(1)
    assert len({tuple(sampled(seed)) for seed in range(4)}) > 1


def test_narrow_sampling_is_greedy(engine: Engine, prompt: list[int]):
    greedy = ids(engine.complete([prompt], Sampling(max_tokens=8, ignore_stop=True))[0])
    for narrow in (Sampling(8, 1.0, top_p=1e-6, ignore_stop=True), Sampling(8, 1.0, top_k=1, ignore_stop=True)):
        assert ids(engine.complete([prompt], narrow)[0]) == greedy


def test_a_penalty_forbids_repetition(engine: Engine, prompt: list[int]):
    strong = Sampling(max_tokens=24, presence_penalty=2.0, frequency_penalty=2.0, ignore_stop=True)
    plain = engine.complete([prompt], Sampling(max_tokens=24, ignore_stop=True))[0]
    changed = engine.complete([prompt], strong)[0]
    assert len(set(ids(changed))) > len(set(ids(plain)))


def test_stop_ids_end_a_reply(engine: Engine, prompt: list[int]):
    free = ids(engine.complete([prompt], Sampling(max_tokens=8, ignore_stop=True))[0])
    stopped = engine.complete([prompt], Sampling(max_tokens=8, stop_ids=frozenset({free[3]})))[0]
    assert ids(stopped) == free[: free.index(free[3]) + 1]
    assert stopped[-1].finish == "stop"


@pytest.mark.parametrize("choice", ["required", "auto"])
def test_an_untrained_call_is_whole(engine: Engine, tokenizer: Tokenizer, prompt: list[int], choice: str):
    constraint = tool_constraint([TOOL], choice, parallel=False)
    start = prompt if choice == "required" else prompt + tokenizer.encode("call it")
    for seed in range(4):
        stops = frozenset((tokenizer.im_end_id, tokenizer.eot_id))
        sampling = Sampling(200, 1.8, seed=seed, stop_ids=stops, constraint=constraint)
        (reply,) = engine.complete([start], sampling)
        assert reply[-1].finish in (("stop",) if choice == "required" else ("stop", "length"))
        calls = parse(tokenizer.decode(t.id for t in reply if t.id not in stops)).calls
        if reply[-1].finish == "stop":
            assert all(isinstance(call, Call) and check_call(call, [TOOL]) == "" for call in calls)
            assert len(calls) == 1 or choice == "auto"


def test_a_schema_binds_the_whole_reply(engine: Engine, tokenizer: Tokenizer, prompt: list[int]):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "b": {"type": "boolean"}}, "required": ["b"]}
    stops = frozenset((tokenizer.im_end_id, tokenizer.eot_id))
    sampling = Sampling(60, 1.5, seed=3, stop_ids=stops, constraint=schema_constraint(schema))
    (reply,) = engine.complete([prompt], sampling)
    assert isinstance(json.loads(tokenizer.decode(t.id for t in reply if t.id not in stops))["b"], bool)


def test_a_grammar_that_is_none_is_refused(engine: Engine, prompt: list[int]):
    (reply,) = engine.complete([prompt], Sampling(constraint=Constraint(ebnf="root ::= nothing_here\n")))
    assert reply[0].finish == "refused"
    assert reply[0].note
    assert engine.complete([prompt], Sampling(max_tokens=1))[0][0].finish  # and the engine goes on


def test_cancelling_frees_the_slot(engine: Engine, prompt: list[int]):
    arrived: list[Token] = []
    first, last = threading.Event(), threading.Event()

    def take(token: Token) -> None:
        arrived.append(token)
        first.set()
        if token.finish:
            last.set()

    handle = engine.submit(prompt, Sampling(max_tokens=1500, ignore_stop=True), take)
    assert first.wait(60)
    assert engine.stats().running == 1
    handle.cancel()
    assert last.wait(60)
    assert arrived[-1].finish == "cancelled"
    for _ in range(100):
        if engine.stats().running + engine.stats().waiting == 0:
            break
        time.sleep(0.05)
    assert (engine.stats().running, engine.stats().waiting) == (0, 0)


def test_the_self_test_passes(engine: Engine):
    assert examine(engine) == ""


def test_onnx_answers_in_order_from_what_it_has_computed(onnx: Path, prompt: list[int]):
    engine, order = OnnxEngine(onnx, threads=1, cache_gib=1e-3), []
    sampling = Sampling(max_tokens=6, ignore_stop=True)
    try:
        (reply,) = engine.complete([prompt], sampling)
        assert engine.stats().cache_usage == (len(prompt) + 5) / engine.max_context
        again = [*prompt, *ids(reply)]
        (more,) = engine.complete([again], sampling)
        assert ids(engine.complete([prompt[:3], again], sampling)[1]) == ids(more)  # another came between
        handles = [engine.submit(prompt, Sampling(50, ignore_stop=True), order.append) for _ in range(3)]
        handles[1].cancel()
        (refused,) = engine.complete([prompt], Sampling(engine.max_context))
        assert (refused[0].finish, "KV cache" in refused[0].note) == ("refused", True)
        assert [token.finish for token in order if token.finish] == ["length", "cancelled", "length"]
    finally:
        engine.close()


def test_a_prompt_that_begins_alike_is_not_computed_again(release: Path, prompt: list[int]):
    decoding = Decoding(load_model(release / "hf"))
    whole, begun = decoding.new_cache(), decoding.new_cache()
    expected = decoding.logits([whole], [prompt])
    begun.copy(whole, begun_at := len(prompt) - 2)
    assert begun.ids == prompt[:begun_at]
    assert torch.allclose(decoding.logits([begun], [prompt[begun_at:]]), expected, atol=1e-4)
    assert whole.shared([*prompt[:4], -1]) == 4


def test_a_request_larger_than_the_cache_is_refused(release: Path, prompt: list[int]):
    engine = TorchEngine(release / "hf", threads=1, cache_gib=1e-4)
    try:
        (reply,) = engine.complete([prompt], Sampling(max_tokens=1000))
        assert (reply[0].finish, "KV cache" in reply[0].note) == ("refused", True)
        many = engine.complete([prompt] * 6, Sampling(max_tokens=40, ignore_stop=True))  # more than fit at once
        assert {len(reply) for reply in many} == {40}
    finally:
        engine.close()


def test_a_killed_engine_is_reported_and_torch_takes_over(release: Path, tmp_path: Path, monkeypatch, capsys):
    """An IR that kills its process stands for an instruction that this processor lacks."""
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))
    broken = tmp_path / "release"
    for name in ("openvino-int8", "hf"):
        (broken / name).mkdir(parents=True)
        for path in (release / name).iterdir():
            (broken / name / path.name).symlink_to(path)
    monkeypatch.setenv("PYTHONPATH", f"{_fatal_package(tmp_path)}:{Path.cwd()}")
    assert self_test(broken / "openvino-int8", 1, 0.25) == "it cannot be loaded: the engine was killed by signal 4"
    engine, served = start_engine(broken / "openvino-int8", "auto", 1, 0.25)
    try:
        assert (served.name, type(engine)) == ("hf", TorchEngine)
    finally:
        engine.close()
    assert "signal 4" in capsys.readouterr().err
    with pytest.raises(ValueError, match="signal 4"):
        start_engine(broken / "openvino-int8", "openvino", 1, 0.25)


def test_a_killed_engine_ends_what_runs_and_says_why(release: Path, prompt: list[int]):
    engine = open_engine(release / "openvino-int8", threads=1, cache_gib=0.25)
    first, ended = threading.Event(), queue.SimpleQueue[Token]()

    def take(token: Token) -> None:
        first.set()
        if token.finish:
            ended.put(token)

    try:
        assert engine.pid not in (0, os.getpid())
        for _ in range(3):
            engine.submit(prompt, Sampling(max_tokens=1500, ignore_stop=True), take)
        assert first.wait(60)
        os.kill(engine.pid, signal.SIGKILL)
        assert [ended.get(timeout=60).finish for _ in range(3)] == ["error"] * 3
        assert engine.failure == "the engine was killed by signal 9"
        assert [token.note for token in engine.complete([prompt], Sampling())[0]] == [engine.failure]
        assert (engine.stats().running, engine.stats().waiting) == (0, 0)
    finally:
        engine.close()


def test_pages_of_a_mapped_file_leave_memory_and_come_back(tmp_path: Path):
    file, content = tmp_path / "weights", os.urandom(1 << 22)
    file.write_bytes(content)

    def resident_kb() -> int:
        (mapping,) = re.findall(
            rf" {re.escape(str(file))}\n(?:.*\n)*?Rss: +(\d+) kB", Path("/proc/self/smaps").read_text()
        )
        return int(mapping)

    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert bytes(mapped) == content
        assert resident_kb() == 4096
        drop_pages(file)
        assert resident_kb() == 0
        assert bytes(mapped) == content


def _fatal_package(folder: Path) -> Path:
    """Found before the real openvino_genai: ends its process as an illegal instruction does."""
    package = folder / "fatal"
    package.mkdir()
    (package / "openvino_genai.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    return package


def test_a_model_larger_than_memory_is_named(release: Path):
    with pytest.raises(ValueError, match=r"needs about .* GiB"):
        check_memory(release / "hf", cache_gib=1 << 20)


def test_a_self_test_is_remembered(release: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path))
    assert self_test(release / "hf", 1, 0.25) == ""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    assert self_test(release / "hf", 1, 0.25) == "", "no second process"


def test_a_damaged_model_fails_its_self_test(release: Path, tmp_path: Path):
    broken = tmp_path / "openvino-int8"
    broken.mkdir()
    for path in (release / "openvino-int8").iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "openvino_model.xml").write_text("<net")
    assert "cannot be loaded" in self_test(broken, 1, 0.25)


def test_requests_that_come_together_share_their_first_step(release: Path, prompt: list[int], monkeypatch):
    ours, theirs = Pipe()
    stepper = Stepper(theirs, release / "openvino-int8", threads=1, num_blocks=64)
    monkeypatch.setattr("mantus.inference.pipeline.MAX_BATCHED_TOKENS", 3 * len(prompt))
    monkeypatch.setattr("mantus.inference.pipeline.GATHER_S", 60.0)

    def ask(number: int) -> None:
        ours.send((number, prompt, Sampling(max_tokens=1, ignore_stop=True)))

    def numbers() -> list[int]:
        assert stepper._take()
        return [number for number, _ in stepper.step().tokens]

    ask(1)
    assert numbers() == [1]
    ask(2)  # while that step ran
    later = [threading.Timer(0.1 * number, ask, (number,)) for number in (3, 4)]
    for timer in later:
        timer.start()
    assert numbers() == [2, 3, 4]
