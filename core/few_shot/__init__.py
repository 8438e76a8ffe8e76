"""Few-shot heads as plain tensors: a class is added or taken away by arithmetic on them, without torch and training."""
