"""The model as KServe sees it: readiness, and v1/v2 prediction with text in and text out.

It knows KServe's types, not OpenAI's.
"""

from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput

from mantus.serving.completions import complete, prepare
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
            if not payload.inputs or not payload.inputs[0].data:
                raise InvalidInput("inputs: expected one BYTES tensor of texts")
            inputs = [item.decode() if isinstance(item, bytes) else str(item) for item in payload.inputs[0].data]
            output = InferOutput("text", [len(inputs)], "BYTES", data=[await self._continue(text) for text in inputs])
            return InferResponse(payload.id, self.name, [output])
        texts = payload.get("instances") if isinstance(payload, dict) else None
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise InvalidInput("instances: expected a list of texts")
        return {"predictions": [await self._continue(text) for text in texts]}

    async def _continue(self, text: str) -> str:
        try:
            asked = prepare(self.generator, CompletionRequest(prompt=text, max_tokens=64, temperature=0))
        except ValueError as error:
            raise InvalidInput(str(error)) from None
        with self.generator.places(1):
            done: str = (await complete(asked))["choices"][0]["text"]
        return done
