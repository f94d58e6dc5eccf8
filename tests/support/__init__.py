"""What several tests share: oracles in plain Python, fakes, and functions for child processes.

Functions that a spawned process runs live here and not in test modules, whose names a child
can't import.
"""
