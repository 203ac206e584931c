"""`largeds bench`: packing, loading and training, ours and the usual ways, measured side by side on one machine."""
