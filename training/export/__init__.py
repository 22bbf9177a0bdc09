"""From a trained model to a folder that can be served: ONNX files, manifest, card."""
