"""Conversations to tune on: instructions and tool use. It knows rows of messages, not tokenizers or models."""
