"""Where a phase runs: this process, a pipeline component, the whole pipeline on this machine.

It knows how to start phases and show them, not what they do.
"""
