"""The file formats, a module each."""
