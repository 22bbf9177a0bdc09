"""Derain over HTTP."""
