"""An index in a Milvus cluster in place of a folder's: filled, replaced, rolled back, searched.

A name in the cluster, such as ``vidvec``, is an alias of one collection, the generation that is
searched; ``vidvec_previous`` is one of the generation before it. A new folder of vectors becomes a
new collection beside them, and only when it is whole the aliases move.
"""
