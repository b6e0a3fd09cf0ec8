"""How processes share a step, what updates the weights, and what is kept of them while training goes on.

It knows gradients and files, not texts.
"""
