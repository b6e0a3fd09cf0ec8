"""Real text to token shards: sources, cleaning, deduplication, vocabulary, shards, chat data, tool data.

It knows nothing of models.
"""
