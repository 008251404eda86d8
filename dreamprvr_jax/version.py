"""The version of the package; setup.py reads it here without importing more."""

__version__ = '0.3.0'
