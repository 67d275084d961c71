"""What a machine has, what it lacks, and how to get it."""
