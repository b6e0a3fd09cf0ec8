"""The process that steps OpenVINO's pipeline: continuous batching, paged KV cache, prefix cache, grammars.

`ContinuousBatchingPipeline.step` holds the interpreter's lock for as long as it computes, seconds for long prompts: in
the server's process nothing else would be answered meanwhile, and requests that come together would be taken in one a
step. So it has a process to itself, and one thread of it, which reads requests between steps and never while one runs.
openvino.py is the other end of the wire.
"""

import ctypes
import json
import mmap
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mantus.inference.engine import Sampling, Token
from mantus.processes import processor_flags
from mantus.text.calls import OPEN
from mantus.text.grammar import Constraint

MAX_BATCHED_TOKENS = 1024
GATHER_S = 0.01
"""How long an idle engine whose requests come together waits for another that its first step has room for."""
MAX_SHAPES = 64
"""Shapes of steps whose prepared primitives OpenVINO keeps: by default 5,000, and a server's memory doubled in a minute
of varied load."""
MAX_GRAMMARS = 1000
"""Grammars after which an idle engine begins with a fresh pipeline: xgrammar keeps each that it has compiled."""
WEIGHTS_FILE = "openvino_model.bin"
MAX_FAILURES = 3
"""Steps that may fail one after the other before the engine gives up."""
PROPERTIES_FILE = "mantus_engine.json"
"""In a variant's folder: CPU plugin properties that the release gate measured with."""

Message = tuple[int, Sequence[int], Sampling] | int | None
"""A request's number, its prompt, how to choose tokens. A number alone cancels its request, None ends the process."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step gave: requests' numbers with their new tokens, in order; what is scheduled and cached after it."""

    tokens: list[tuple[int, Token]]
    scheduled: int = 0
    cache_usage: float = 0.0
    failure: str = ""
    """Why the process ends now."""


@dataclass(slots=True)
class _Running:
    """A request that the pipeline works on."""

    handle: Any
    constrained: bool
    begun: bool = False


class Stepper:
    """Takes requests, steps the pipeline, sends tokens, until told to end or broken."""

    _fresh: bool
    """Whether the pipeline has made no step yet."""

    def __init__(self, wire: Connection, folder: Path, threads: int, num_blocks: int) -> None:
        self._wire, self._given = wire, (folder, threads, num_blocks)
        self._open()
        self._running: dict[int, _Running] = {}
        self._grammars: set[int] = set()
        self._new: list[tuple[int, Token]] = []
        self._alone, self._patience = False, 0.0

    def work(self) -> None:
        """Until the end."""
        failed, note = 0, ""
        while failed < MAX_FAILURES and self._take():
            try:
                self._wire.send(self.step())
                failed = 0
            except RuntimeError as error:
                failed, note = failed + 1, str(error).strip().splitlines()[-1]
                self._recover(note, for_good=failed == MAX_FAILURES)
        self._end_all("cancelled")
        self._wire.send(Step(self._taken(), failure=note if failed == MAX_FAILURES else ""))

    def step(self) -> Step:
        """One step of all that runs."""
        self._pipeline.step()
        if self._fresh:
            drop_pages(self._given[0] / WEIGHTS_FILE)
            self._fresh = False
        measured = self._pipeline.get_metrics()
        for number, running in list(self._running.items()):
            self._read(number, running)
        return Step(self._taken(), measured.scheduled_requests if self._running else 0, measured.cache_usage / 100)

    def _open(self) -> None:
        self._pipeline = open_pipeline(*self._given)
        self._fresh = True

    def _taken(self) -> list[tuple[int, Token]]:
        new, self._new = self._new, []
        return new

    def _take(self) -> bool:
        """Take what the wire brings, waiting for it when there is nothing to do; whether to go on.

        A request that begins a step alone makes those that come a millisecond later wait for it, and for a step of
        their own. After that an idle engine waits a little, until one request comes alone again.
        """
        if self._alone:
            self._patience = GATHER_S if self._wire.poll() else 0.0
        room = 0 if self._running else MAX_BATCHED_TOKENS
        taken = 0
        while not self._running or self._wire.poll(self._patience if room > 0 else 0):
            if self._new and not self._running:  # of requests that ended without a step
                self._wire.send(Step(self._taken()))
            if not self._running and len(self._grammars) > MAX_GRAMMARS:
                self._grammars.clear()
                self._open()
            asked: Message = self._wire.recv()
            if asked is None:
                return False
            if isinstance(asked, int):
                self._cancel(asked)
            else:
                self._add(*asked)
                taken, room = taken + 1, room - len(asked[1])
        self._alone = taken == 1 == len(self._running)
        return True

    def _add(self, number: int, prompt: Sequence[int], sampling: Sampling) -> None:
        try:
            config = generation(sampling)
            if sampling.constraint is not None:
                self._grammars.add(hash(sampling.constraint))
            handle = add_request(self._pipeline, number, prompt, config)
        except (RuntimeError, TypeError) as error:  # for example a grammar that it cannot compile
            self._new.append((number, Token(-1, 0.0, "refused", str(error).strip().splitlines()[-1])))
            return
        self._running[number] = _Running(handle, sampling.constraint is not None)

    def _cancel(self, number: int) -> None:
        if number in self._running:  # else it has ended meanwhile
            self._running.pop(number).handle.cancel()
            self._new.append((number, Token(-1, 0.0, "cancelled")))

    def _read(self, number: int, running: _Running) -> None:
        """A request's new tokens."""
        ids, logprobs, finish = read_all(running.handle)
        running.begun = running.begun or bool(ids)
        for index, (token, logprob) in enumerate(zip(ids, logprobs, strict=True)):
            self._new.append((number, Token(token, float(logprob), finish if index == len(ids) - 1 else "")))
        if not ids and finish:
            note = "the prompt needs more KV cache than there is" if finish == "refused" else ""
            self._new.append((number, Token(-1, 0.0, finish, note)))
        if finish:
            del self._running[number]

    def _recover(self, note: str, for_good: bool) -> None:
        """Give up what runs and begin with a fresh pipeline: after a failed step the old one has lost its order.

        The engine compiles a grammar at a request's first step: one that has a grammar and no token yet is at fault.
        """
        self._end_all("error", note)
        if not for_good:
            self._open()

    def _end_all(self, finish: str, note: str = "") -> None:
        for number, running in self._running.items():
            at_fault = finish == "error" and running.constrained and not running.begun
            self._new.append((number, Token(-1, 0.0, "refused" if at_fault else finish, note)))
        self._running = {}


def open_pipeline(folder: Path, threads: int, num_blocks: int, prefix_caching: bool = True) -> Any:
    """OpenVINO's pipeline over a variant's folder, with so many blocks of KV cache."""
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.num_kv_blocks = num_blocks
    scheduler.enable_prefix_caching = prefix_caching
    scheduler.max_num_batched_tokens = MAX_BATCHED_TOKENS
    settings = properties(folder, threads)
    return openvino_genai.ContinuousBatchingPipeline(str(folder), scheduler, "CPU", settings)


def drop_pages(file: Path) -> None:
    """Take a file's pages out of this process's memory; one that is read again comes back by itself.

    The plugin maps the weights, and packs a copy of them at its first step: what it read then is never read again.
    """
    libc, name = ctypes.CDLL(None), f" {file.resolve()}"
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(name):
            begin, end = (int(address, 16) for address in line.split()[0].split("-"))
            libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


def add_request(pipeline: Any, number: int, prompt: Sequence[int], config: Any) -> Any:
    """Give a pipeline a prompt; the handle that its tokens are read from."""
    import numpy as np
    import openvino as ov

    return pipeline.add_request(number, ov.Tensor(np.array([prompt], dtype=np.int64)), config)


def properties(folder: Path, threads: int) -> dict[str, Any]:
    """What the CPU plugin runs a variant's folder with: so many threads, and what the release found to be best.

    A kernel of int8 feed-forward parts (release/fused.py) shares work by pairs of threads: with one the plugin divides
    by zero, and the process is gone.
    """
    stored = folder / PROPERTIES_FILE
    found = json.loads(stored.read_text()) if stored.is_file() else {}
    if threads < 2 or not has_amx():
        found.pop("DYNAMIC_QUANTIZATION_GROUP_SIZE", None)
    return {"INFERENCE_NUM_THREADS": threads, "CPU_RUNTIME_CACHE_CAPACITY": MAX_SHAPES, **found}


def has_amx() -> bool:
    """Whether the processor multiplies tiles of int8 and bfloat16."""
    return {"amx_int8", "amx_bf16"} <= processor_flags()


def generation(sampling: Sampling) -> Any:
    """OpenVINO's words for how to choose tokens."""
    import openvino_genai

    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = sampling.max_tokens
    config.logprobs = 1
    config.ignore_eos = sampling.ignore_stop
    config.presence_penalty = sampling.presence_penalty
    config.frequency_penalty = sampling.frequency_penalty
    if sampling.stop_ids and not sampling.ignore_stop:
        config.stop_token_ids = set(sampling.stop_ids)
        config.eos_token_id = min(sampling.stop_ids)
    if sampling.temperature > 0:
        config.do_sample = True
        config.temperature = sampling.temperature
        config.top_p = sampling.top_p
        config.rng_seed = sampling.seed
        if sampling.top_k:
            config.top_k = sampling.top_k
    if sampling.constraint is not None:
        config.structured_output_config = _structured(sampling.constraint)
    return config


def read_all(handle: Any) -> tuple[list[int], list[float], str]:
    """Everything a handle has ready: ids, their log probabilities, why it finished ('' while it runs)."""
    import openvino_genai

    reasons = openvino_genai.GenerationFinishReason
    ids: list[int] = []
    logprobs: list[float] = []
    finish = ""
    while handle.can_read():
        for output in handle.read().values():
            ids += output.generated_ids
            logprobs += output.generated_log_probs
            finish = {reasons.STOP: "stop", reasons.LENGTH: "length"}.get(output.finish_reason, finish)
    if handle.get_status() == openvino_genai.GenerationStatus.IGNORED:
        finish = "refused"
    return ids, logprobs, finish


def _structured(constraint: Constraint) -> Any:
    import openvino_genai

    kinds = openvino_genai.StructuredOutputConfig
    if constraint.ebnf:
        return kinds(grammar=constraint.ebnf)
    tags = [kinds.Tag(begin=t.begin, content=kinds.EBNF(t.arguments), end=t.end) for t in constraint.tags]
    return kinds(structural_tags_config=kinds.TriggeredTags(triggers=[OPEN], tags=tags))


def main() -> None:
    """The process: the wire's file descriptor, a folder, threads, blocks of KV cache.

    It says '' once the pipeline is there, or why it is not. A signal that a terminal or a service manager sends to all
    is for the server, which ends this process when its streams are done.
    """
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    wire, folder, threads, num_blocks = sys.argv[1:]
    connection = Connection(int(wire))
    try:
        stepper = Stepper(connection, Path(folder), int(threads), int(num_blocks))
    except (RuntimeError, ImportError, OSError, ValueError) as error:
        connection.send(" ".join(str(error).split()) or type(error).__name__)
        return
    connection.send("")
    stepper.work()
    os._exit(0)  # the pipeline's threads need no orderly end
