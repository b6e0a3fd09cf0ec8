"""All logits of a prompt from an OpenVINO model, for log probabilities of prompts with their alternatives; embeddings.

It knows the exported model's inputs, not requests. The prompt goes through in stretches, so that memory does not grow
with it: a stretch's logits are STRETCH x vocabulary.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mantus.inference.engine import Scored

STRETCH = 256


class PromptLogits:
    """A second copy of the model, compiled without continuous batching. One prompt at a time."""

    def __init__(self, folder: Path, properties: dict[str, Any]) -> None:
        import openvino as ov

        core = ov.Core()
        read = core.read_model(str(folder / "openvino_model.xml"))
        read.add_outputs(_before_head(read))
        model = core.compile_model(read, "CPU", properties)
        self._inputs = {name for port in model.inputs for name in port.names}
        self._request = model.create_infer_request()

    def scores(self, prompt: Sequence[int], top: int) -> list[Scored]:
        """See `Engine.prompt_scores`."""
        self._request.reset_state()
        return score_stretches(prompt, top, self._step)

    def logprobs(self, window: Sequence[int]) -> Any:
        """Log probabilities [T, V] of what follows each token of a window, which goes through at once."""
        self._request.reset_state()
        return log_softmax(self._step(window, 0))

    def embed(self, prompt: Sequence[int]) -> Any:
        """See `Engine.embed`."""
        self._request.reset_state()
        return mean_direction(prompt, lambda ids, start: self._step(ids, start, output=1))

    def _step(self, ids: Sequence[int], start: int, output: int = 0) -> Any:
        """Logits [T, V] after each of `ids`, which stand at `start` of the prompt; of output 1 what the head reads."""
        end = start + len(ids)
        given = {
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, end), dtype=np.int64),
            "position_ids": np.arange(start, end, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        self._request.infer({name: value for name, value in given.items() if name in self._inputs})
        return self._request.get_output_tensor(output).data[0]


def _before_head(model: Any) -> Any:
    """The output [1, T, D] of the last norm, which the head multiplies into logits."""
    node = model.outputs[0].get_node()
    while node.get_type_name() != "MatMul":
        node = node.input_value(0).get_node()
    return node.input_value(0)


def mean_direction(prompt: Sequence[int], hidden: Callable[[Sequence[int], int], Any]) -> Any:
    """See `Engine.embed`. hidden(ids, where they start) -> [T, D] at each, of any float type."""
    starts = range(0, len(prompt), STRETCH)
    sums = [np.asarray(hidden(prompt[at : at + STRETCH], at), dtype=np.float32).sum(0) for at in starts]
    total = np.sum(sums, axis=0)
    return total / np.linalg.norm(total)


def score_stretches(prompt: Sequence[int], top: int, logits: Callable[[Sequence[int], int], Any]) -> list[Scored]:
    """See `Engine.prompt_scores`. logits(ids, where they start) -> [T, V] after each, of any float type."""
    found: list[Scored] = []
    for start in range(0, len(prompt) - 1, STRETCH):
        ids = prompt[start : start + STRETCH]
        following = prompt[start + 1 : start + 1 + len(ids)]
        found += score_rows(logits(ids, start)[: len(following)], following, top)
    return found


def log_softmax(logits_TV: Any) -> Any:
    """Log probabilities [T, V] in float32, of logits of any float type."""
    values = np.asarray(logits_TV, dtype=np.float32)
    values = values - values.max(-1, keepdims=True)
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


def score_rows(logits_TV: Any, following: Sequence[int], top: int) -> list[Scored]:
    """Log probability of each following token, with the `top` most likely (array of any float type)."""
    found = []
    for row, token in zip(log_softmax(logits_TV), following, strict=True):
        best = np.argpartition(row, -top)[-top:] if top else np.array([], dtype=np.int64)
        best = best[np.argsort(-row[best], kind="stable")]
        found.append(Scored(float(row[token]), tuple((int(index), float(row[index])) for index in best)))
    return found
