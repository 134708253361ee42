"""The versions, where a module that __init__ imports can read it."""

__version__ = "0.2.0"

# of what is simulated: raised whenever a golden result changes (tests/accuracy/test_golden.py), so that results of two
# models are never mixed
MODEL_VERSION = 1
