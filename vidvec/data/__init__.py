"""READ → BATCH: sources, frame encoders, the corpus on disk, tokenizer, splits and batches."""
