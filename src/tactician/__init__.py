"""Tactician trains, judges and runs a tactical asset allocation agent."""

__version__ = "0.1.0"
