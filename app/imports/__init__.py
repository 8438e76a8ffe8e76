"""Models from outside: weights are checked before they are believed."""
