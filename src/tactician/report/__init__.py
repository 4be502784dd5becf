"""Renders a result to one offline page."""
