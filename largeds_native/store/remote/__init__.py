"""Stores in object storage: copied as a whole (`push`, `pull`), or opened through a cache on a local disk."""
