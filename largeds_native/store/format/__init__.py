"""The format of a store on disk (docs/store-format.md): its one reader and its one writer.

Whoever makes a store fills shards with a `ShardWriter` and ends with `commit`; packing and interchange do.
"""
