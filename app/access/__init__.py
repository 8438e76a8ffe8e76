"""Access: who may call, and what is written down of it."""
