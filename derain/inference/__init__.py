"""Runs models: the only package that knows onnxruntime."""
