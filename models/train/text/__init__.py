"""Text generators of the embedded model's training set, one topic a module. Standard library only."""
