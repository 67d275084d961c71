"""An index made of several: folders, clusters and servers that are searched as one.

``layout`` has the file that lists them, ``shard`` one of them with its time limit and its pauses,
``engine`` the whole, ``splitting`` makes shards of a folder of vectors.
"""
