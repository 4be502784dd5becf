"""Limits of the machine: memory plan and probe, pace, processes, device and precision."""
