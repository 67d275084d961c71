"""OBJECTIVE → TRAINER: masks, losses, optimiser, checkpoints and the loop."""
