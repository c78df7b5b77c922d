"""A process that forks while it is at work, and what its children are answered."""
