"""The residual-rain monitor of `derain/slacking.py`: its weights are fitted here, and measured."""
