"""A corpus in detail: what was dropped and why, what is left, and where every document came from.

It knows the files of the data artifacts, not the phases that made them.
"""
