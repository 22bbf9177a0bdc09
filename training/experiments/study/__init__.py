"""The paper's experiment: what a network learns to remove, against what it was trained on."""
