"""Image files: bytes to pixels and back."""
