"""Cleaning: what a text's form and quality are, and which of them pass."""
