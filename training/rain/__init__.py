"""Rain, in families of different make. `families.py` lists them by name."""
