"""The market room."""
