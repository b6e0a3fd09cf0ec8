"""KFP components, one folder a phase: unpack arguments, call the phase, fill and show what came of it."""

import os

import mantus

IMAGE = os.environ.get("MANTUS_IMAGE", f"mantus-python:{mantus.__version__}")
"""The image that components run in; it has mantus installed. Set MANTUS_IMAGE when compiling to use another."""
