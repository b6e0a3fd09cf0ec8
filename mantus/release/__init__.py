"""Quantise, export, measure through the engine that serves, and pass or refuse. It knows no HTTP."""
