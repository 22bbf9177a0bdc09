"""One image from bytes to bytes, without HTTP."""
