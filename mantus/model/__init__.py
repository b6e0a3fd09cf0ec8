"""The transformer, the size ladder, Hugging Face import and export.

It knows nothing of text, data or training.
"""
