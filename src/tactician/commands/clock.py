"""The time. The one place that asks the computer for it, so that a test can set it."""

from datetime import UTC, datetime


def now() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)
