"""Networks scored on images with and without ground truth; nothing here trains."""
