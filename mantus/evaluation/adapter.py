"""Our model as an lm-eval model: `simple_evaluate(model=MantusLM(...))`, or `--model mantus` on its command line.

It knows token ids and log probabilities, not tasks. Importing this module registers the name `mantus` with lm-eval.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval import utils
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from torch.nn.utils.rnn import pad_sequence

from mantus import console
from mantus.model.hf import load_model
from mantus.model.transformer import generate
from mantus.processes import num_processors
from mantus.text.tokenizer import Tokenizer

BATCH_TOKENS = 4096


@register_model("mantus")
class MantusLM(TemplateLM):  # type: ignore[misc]
    """A Hugging Face directory of ours, in float32 on CPU."""

    def __init__(self, pretrained: str, window: int | str = 256, **_: Any) -> None:
        """pretrained: the directory.  window: longest sequence given to the model, in tokens."""
        super().__init__()
        torch.set_num_threads(num_processors())
        self.model = load_model(Path(pretrained)).eval()
        self.tokenizer = Tokenizer.load(Path(pretrained))
        self.window = int(window)

    @property
    def eot_token_id(self) -> int:
        """What an empty context becomes."""
        return self.tokenizer.eot_id

    @property
    def tokenizer_name(self) -> str:
        """A name for lm-eval's caches."""
        return "mantus"

    def tok_encode(self, string: str, *_: Any, **__: Any) -> list[int]:
        """Ids, special tokens disabled."""
        return self.tokenizer.encode(string)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        """(log probability of the continuation, whether it is the greedy one), batched by length."""
        rows = [(context + continuation)[-self.window - 1 :] for _, context, continuation in requests]
        lengths = [min(len(continuation), self.window) for _, _, continuation in requests]
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(rows)
        with console.progress("evaluate", len(rows), "windows") as bar:
            while order:
                longest = len(rows[order[0]])
                batch, order = order[: max(1, BATCH_TOKENS // longest)], order[max(1, BATCH_TOKENS // longest) :]
                for index, answer in zip(batch, self._score(batch, rows, lengths), strict=True):
                    answers[index] = answer
                bar.advance(len(batch))
        return answers

    @torch.no_grad()
    def _score(self, batch: list[int], rows: list[list[int]], lengths: list[int]) -> list[tuple[float, bool]]:
        ids = pad_sequence([torch.tensor(rows[index]) for index in batch], batch_first=True)
        logprobs = self.model(ids[:, :-1]).log_softmax(-1)
        found = []
        for position, index in enumerate(batch):
            end = len(rows[index]) - 1
            part = logprobs[position, end - lengths[index] : end]
            target = torch.tensor(rows[index][-lengths[index] :])
            found.append((float(part.gather(1, target[:, None]).sum()), bool((part.argmax(-1) == target).all())))
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log probability of whole texts, in windows that share one token of context."""
        windows: list[tuple[Any, list[int], list[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            ids = self.tokenizer.encode(request.args[0])
            rolled = utils.get_rolling_token_windows(ids, self.eot_token_id, self.window, 1)
            for context, continuation in map(utils.make_disjoint_window, rolled):
                windows.append((None, context, continuation))
                owners.append(number)
        totals = [0.0] * len(requests)
        for owner, (logprob, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[owner] += logprob
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy continuations up to a stop string."""
        replies = []
        for request in requests:
            context, arguments = request.args
            stops = arguments.get("until") or []
            limit = int(arguments.get("max_gen_toks", 64))
            ids = self.tokenizer.encode(context)[-self.window + limit :] or [self.eot_token_id]
            text = self.tokenizer.decode(
                generate(self.model, ids, limit, [self.eot_token_id, self.tokenizer.im_end_id])
            )
            cuts = [
                at for stop in ([stops] if isinstance(stops, str) else stops) if stop and (at := text.find(stop)) >= 0
            ]
            replies.append(text[: min(cuts)] if cuts else text)
        return replies
