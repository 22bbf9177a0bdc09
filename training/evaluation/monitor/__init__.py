"""The residual-rain monitor of `derain/monitor.py`: its weights are fitted here, and measured."""
