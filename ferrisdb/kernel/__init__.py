"""Loops over bytes, compiled: no policy, and no Python objects inside the loops."""
