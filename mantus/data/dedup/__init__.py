"""Which documents of a corpus to drop: copies, what was taken down, evaluation sets. It reads corpora only."""
