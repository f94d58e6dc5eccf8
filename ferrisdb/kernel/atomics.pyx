# cython: language_level=3
"""Evaluate atomic operations; layouts in atomics.pxd."""
