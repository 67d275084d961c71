"""The HTTP API over a folder of vectors; ``app.create_app`` makes it, ``running.run`` serves it."""
