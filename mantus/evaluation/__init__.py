"""Measure a model through lm-eval, and an endpoint through its API. It knows no training."""
