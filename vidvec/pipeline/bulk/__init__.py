"""Bulk work on many machines: ingest and embedding on Ray Data."""
