"""Imports: weights from outside that become a model once they were checked."""
