"""Renders a result to one offline page."""

from tactician.report.page import page, write_page

__all__ = ["page", "write_page"]
