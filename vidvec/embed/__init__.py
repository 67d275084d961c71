"""VECTORS → FUSE: a corpus and a checkpoint to vectors, their evaluation and fusion."""
