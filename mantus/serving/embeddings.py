"""Embeddings: texts as directions in the model's own width, the mean over their tokens.

It knows OpenAI's shape, not routes.
"""

import asyncio
import base64
from typing import Any

from mantus.serving.generate import Generator
from mantus.serving.schemas import EmbeddingRequest


async def embed(generator: Generator, request: EmbeddingRequest, texts: list[list[int]]) -> dict[str, Any]:
    """A vector for each text. ValueError when one does not fit, or the engine makes none."""
    limit = generator.engine.max_context
    if (longest := max(map(len, texts))) > limit:
        raise ValueError(f"input: {longest} tokens do not fit into a context of {limit}")
    vectors = [await asyncio.to_thread(generator.engine.embed, ids) for ids in texts]
    if request.dimensions not in (None, width := len(vectors[0])):
        raise ValueError(f"dimensions: this model's vectors have {width}, and can be cut to no fewer")
    spelt = [_base64(vector) if request.encoding_format == "base64" else vector.tolist() for vector in vectors]
    usage = dict.fromkeys(("prompt_tokens", "total_tokens"), sum(map(len, texts)))
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(spelt)]
    return {"object": "list", "data": data, "model": generator.name, "usage": usage}


def _base64(vector: Any) -> str:
    """Its numbers as float32, little-endian."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
