"""What a corpus and a model of some size cost before either is begun: arithmetic over rates measured here.

It knows how the phases read, write and divide their work, not how any of them does it.
"""
