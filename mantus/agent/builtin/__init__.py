"""The tools that Mantus brings: calculator, search, file_read, file_write.

It knows no model and no loop.
"""
