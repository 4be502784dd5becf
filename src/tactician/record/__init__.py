"""Records what was tried and looked at."""
