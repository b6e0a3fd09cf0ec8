"""Sources of text: where they lie, how they are fetched, and what reading them gives.

It does not judge documents. Readers are generators of documents and drops; each drop has a reason.
"""
