"""What cannot be computed says so. It is never a number."""


class NotAvailable(Exception):
    """A figure or a strategy that cannot be had here."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        """Why, as a clause that continues 'not available: '."""
