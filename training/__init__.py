"""The recipe that trains a deraining network."""

import derain as derain  # before any import of onnxruntime: it keeps that from reporting
