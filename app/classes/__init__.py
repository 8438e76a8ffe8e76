"""Classes of few-shot models: one is added from a few items, or taken away, and a new model comes of it."""
