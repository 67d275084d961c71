"""The paths of the API, by theme."""
