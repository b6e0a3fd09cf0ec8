"""Hold token shards beside the tokenizer that was exported: every document, by Hugging Face's own library.

It knows artifacts and tokenizer.json, not how either was made.
"""

import json
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import polars as pl
from tokenizers import Tokenizer

from mantus.data.corpus import part_paths
from mantus.data.shards import Tokens, TokenShards

AT_ONCE = 256
"""Documents that the library encodes at once."""


def differing(corpus: Path, shards: Path, tokenizer: Path) -> tuple[int, int]:
    """(documents, those among them whose ids are not what tokenizer.json gives for their text).

    No text is a special token, whatever it looks like; the last id of a document, its end, is left out.
    """
    texts = {}
    for part in part_paths(corpus):
        texts.update(pl.read_parquet(part, columns=["id", "text"]).iter_rows())
    exported = Tokenizer.from_str(json.dumps({**json.loads(tokenizer.read_bytes()), "added_tokens": []}))
    num = different = 0
    found_ids = documents(shards)
    while group := list(islice(found_ids, AT_ONCE)):
        wanted = exported.encode_batch_fast([texts[name] for name, _ in group], add_special_tokens=False)
        different += sum(not np.array_equal(ids, found.ids) for (_, ids), found in zip(group, wanted, strict=True))
        num += len(group)
    return num, different


def documents(shards: Path) -> Iterator[tuple[str, Tokens]]:
    """Id and ids of each document of both splits."""
    for split in ("train", "heldout"):
        indices = sorted((shards / split).glob("*.idx"))
        for index, (tokens, offsets) in zip(indices, TokenShards.open(shards / split).shards, strict=True):
            names = pl.read_parquet(index.with_suffix(".documents.parquet"))["id"]
            for name, (start, end) in zip(names, pairwise(offsets.tolist()), strict=True):
                yield name, tokens[start : end - 1]
