"""ENCODER: flat tokens of a video in, one vector out; weights in and out."""
