"""The demo: videos that the project renders itself, and the report on what was learned."""
