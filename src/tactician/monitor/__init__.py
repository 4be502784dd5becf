"""Output about long work: progress on the screen, trackers of metrics, tables."""
