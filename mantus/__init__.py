"""Mantus: a language model's whole life as Kubernetes-native services."""

__version__ = "0.1.0"
