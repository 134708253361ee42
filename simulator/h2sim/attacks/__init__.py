"""Attacks on trained networks: inputs that are classified wrongly. They change no weights."""
