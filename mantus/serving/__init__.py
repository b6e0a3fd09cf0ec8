"""OpenAI routes over an engine, inside a KServe model server, with vLLM's metric names. It knows no training."""
