"""Tokens: what lies between a corpus and its token shards, and what becomes of them elsewhere.

The phases that write vocabularies and shards are mantus.data.vocabulary and mantus.data.tokenize.
"""
