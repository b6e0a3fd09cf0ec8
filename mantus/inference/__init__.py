"""A compiled model -> a stream of tokens: the engine that release measures and serving runs. It knows no text."""
