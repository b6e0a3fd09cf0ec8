"""Conversations about tools that nobody wrote phrasings for. It knows tools and words, not tokenizers or models."""
