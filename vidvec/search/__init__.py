"""INDEX → SERVE: nearest neighbours of videos and of words."""
