"""What libraries say when memory does not suffice: torch has no class of its own for some of their errors."""

WORDS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "status_alloc_failed",
    "std::bad_alloc",
    "failed to allocate",
)


def says_out_of_memory(text: str) -> bool:
    """Whether an error's text says so."""
    return any(word in text.lower() for word in WORDS)
