"""One run: duration, setup, state, loop, checkpoints, progress, trackers, summary."""
