"""What a person or TensorBoard sees of long work: progress, trackers, tables."""
