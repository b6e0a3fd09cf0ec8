"""How one reply's next token is chosen from logits: penalties, constraint, temperature, top-k, top-p, seed.

It knows one reply, not the model.
"""

from collections import Counter

import torch
from torch import Tensor

from mantus.inference.engine import Sampling, Token
from mantus.inference.guide import Guide


class Chooser:
    """The state of one reply. Reported probabilities are the model's own, before anything here changes them."""

    def __init__(self, sampling: Sampling, guide: Guide | None) -> None:
        self._sampling, self._guide = sampling, guide
        self._generator = torch.Generator().manual_seed(sampling.seed)
        self._seen: Counter[int] = Counter()

    def choose(self, logits_V: Tensor, so_far: int) -> Token:
        """The next token, after `so_far` of them; logits_V: float32."""
        sampling, logprobs_V = self._sampling, logits_V.log_softmax(-1)
        token = self._pick(self._changed(logits_V))
        self._seen[token] += 1
        goes_on = self._guide is None or self._guide.push(token)
        stops = (token in sampling.stop_ids or not goes_on) and not sampling.ignore_stop
        finish = "stop" if stops else "length" if so_far + 1 >= sampling.max_tokens else ""
        best = logprobs_V.topk(min(sampling.top, len(logprobs_V)))
        top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return Token(token, float(logprobs_V[token]), finish, top=top)

    def _changed(self, logits_V: Tensor) -> Tensor:
        sampling = self._sampling
        if self._seen and (sampling.presence_penalty or sampling.frequency_penalty):
            logits_V = logits_V.clone()
            for token, count in self._seen.items():
                logits_V[token] -= sampling.presence_penalty + count * sampling.frequency_penalty
        if self._guide is not None:
            logits_V = logits_V.masked_fill(~torch.from_numpy(self._guide.allowed()), -torch.inf)
        return logits_V

    def _pick(self, logits_V: Tensor) -> int:
        sampling = self._sampling
        if sampling.temperature <= 0:
            return int(logits_V.argmax())
        logits_V = logits_V / sampling.temperature
        if sampling.top_k:
            least = logits_V.topk(min(sampling.top_k, len(logits_V))).values[-1]
            logits_V = logits_V.masked_fill(logits_V < least, -torch.inf)
        probs_V = logits_V.softmax(-1)
        if sampling.top_p < 1:
            ordered, places = probs_V.sort(descending=True)
            ordered[ordered.cumsum(0) - ordered >= sampling.top_p] = 0
            probs_V = torch.zeros_like(probs_V).scatter_(0, places, ordered)
        return int(torch.multinomial(probs_V, 1, generator=self._generator))
