"""What the machine allows: memory plan and probe, processes, device and precision."""
