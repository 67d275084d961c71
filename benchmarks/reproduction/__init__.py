"""The published claims on a made corpus: what is trained, measured, judged, and told."""
