"""An agent: a model behind any OpenAI-compatible endpoint, a set of tools, and a loop with limits.

It knows neither how the endpoint runs its model nor how the model was made.
"""
