"""Direct preference optimisation: the better reply of a pair becomes likelier against the worse one.

It knows pairs as rows of ids, two by two, and how likely the untuned model found them. B rows, T time.
Source: Rafailov et al. 2023, Direct Preference Optimization, equation 7.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mantus.model.transformer import Transformer
from mantus.training.objectives.batches import Batch, Conversations, Row, padded
from mantus.training.objectives.loss import CHUNK_TOKENS, IGNORE, trained

RowPair = tuple[Row, Row]
"""(better, worse)"""


class Preference(nn.Module):
    """A model and the loss of pairs as one module."""

    def __init__(self, model: Transformer, dtype: torch.dtype, beta: float) -> None:
        super().__init__()
        self.inner = model
        self.inner.compute_dtype = dtype
        self.dtype, self.beta = dtype, beta

    def forward(self, ids_BT: Tensor, targets_BT: Tensor, reference_B: Tensor) -> Tensor:
        """Sum over the pairs (rows 0 and 1, 2 and 3, ...) of -log sigmoid(margin); pairs without targets count 0."""
        loss = -F.logsigmoid(self.margins(ids_BT, targets_BT, reference_B))
        real = (targets_BT != IGNORE).any(dim=1).view(-1, 2).any(dim=1)
        total: Tensor = (loss * real).sum()
        return total

    def margins(self, ids_BT: Tensor, targets_BT: Tensor, reference_B: Tensor) -> Tensor:
        """beta * (how much likelier than before the better reply is, less the same of the worse), [B / 2]."""
        gained = (self.log_likelihoods(ids_BT, targets_BT) - reference_B).view(-1, 2)
        return self.beta * (gained[:, 0] - gained[:, 1])

    def log_likelihoods(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """The summed log-probability of each row's targets, float32 [B]."""
        at_N, targets_N = trained(targets_BT)
        rows = at_N // ids_BT.shape[1]
        x_ND = self.inner.hidden(ids_BT, wanted_C=at_N)
        sums = x_ND.new_zeros(len(ids_BT), dtype=torch.float32)
        for start in range(0, len(x_ND), CHUNK_TOKENS):
            part = slice(start, start + CHUNK_TOKENS)
            logs: Any = checkpoint(self._logs, x_ND[part], targets_N[part], use_reentrant=False)
            sums = sums.index_add(0, rows[part], logs)
        return sums

    def _logs(self, x_ND: Tensor, targets_N: Tensor) -> Tensor:
        logits = (x_ND.to(self.dtype) @ self.inner.lm_head.weight.to(self.dtype).T).float()
        return -F.cross_entropy(logits, targets_N, reduction="none")


class Pairs(Conversations):
    """Batches of pairs; each batch has a third tensor, how likely the untuned model found its rows."""

    def __init__(self, pairs: Sequence[RowPair], batch_tokens: int, seed: int, pad_id: int) -> None:
        self.pairs = pairs
        self.reference = np.zeros((len(pairs), 2), np.float32)
        longest = [max(pair, key=lambda row: len(row[0])) for pair in pairs]
        super().__init__(longest, batch_tokens // 2, seed, pad_id)

    def collate(self, indices: Sequence[int]) -> Batch:
        """The pairs of these numbers, rows of a pair one behind the other; at least one, of padding."""
        rows = [row for index in indices for row in self.pairs[index]] or [([], []), ([], [])]
        known = self.reference[list(indices)].reshape(-1) if len(indices) else np.zeros(2, np.float32)
        return (*self.pad(rows), torch.from_numpy(known))

    def ask(self, module: Preference, rank: int = 0, world: int = 1) -> None:
        """Fill in how likely the module's model finds each reply. Every process asks for its share."""
        order = sorted(range(len(self.pairs)), key=lambda index: len(self.rows[index][0]))
        device = module.inner.lm_head.weight.device
        step = max(1, self.batch_tokens // padded(max(len(row[0]) for row in self.rows)))
        with torch.no_grad():
            for start in range(rank * step, len(order), world * step):
                chosen = order[start : start + step]
                ids, targets, _ = self.collate(chosen)
                found = module.log_likelihoods(ids.to(device), targets.to(device)).cpu()
                self.reference[chosen] = found.view(-1, 2).numpy()
        if world > 1:
            import torch.distributed as dist

            shared = torch.from_numpy(self.reference)
            dist.all_reduce(shared)  # the others' shares are zeros here
            self.reference = shared.numpy()
