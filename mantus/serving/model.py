"""The model as KServe sees it: readiness, and v1/v2 prediction with text in and text out.

It knows KServe's types, not OpenAI's.
"""

from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model

from mantus.serving.completions import complete
from mantus.serving.generate import Generator
from mantus.serving.schemas import CompletionRequest


class ServedModel(Model):  # type: ignore[misc]
    """`/v1/models/<name>:predict` and `/v2/models/<name>/infer`."""

    def __init__(self, name: str, generator: Generator) -> None:
        super().__init__(name)
        self.generator = generator
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """v1: {"instances": [text]} -> {"predictions": [text]}; v2: one BYTES input -> one BYTES output."""
        if isinstance(payload, InferRequest):
            texts = [item.decode() if isinstance(item, bytes) else str(item) for item in payload.inputs[0].data]
            output = InferOutput("text", [len(texts)], "BYTES", data=[await self._continue(text) for text in texts])
            return InferResponse(payload.id, self.name, [output])
        return {"predictions": [await self._continue(str(text)) for text in payload["instances"]]}

    async def _continue(self, text: str) -> str:
        request = CompletionRequest(prompt=text, max_tokens=64, temperature=0)
        done: str = (await complete(self.generator, request))["choices"][0]["text"]
        return done
