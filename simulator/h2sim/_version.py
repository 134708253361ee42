"""The version, where a module that __init__ imports can read it."""

__version__ = "0.2.0"
