"""Speak Redis's protocol: replies, commands, and the sessions of connected clients."""
