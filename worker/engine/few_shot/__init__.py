"""Learning from a few items: episodes, what is trained on them, what is measured by them, what is served."""
