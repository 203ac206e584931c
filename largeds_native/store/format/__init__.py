"""The format of a store on disk (docs/store-format.md): its one reader and its one writer.

Packing and interchange write a store by filling shards with a `ShardWriter` and then calling `commit`.
"""
