"""The networks: a rain estimator, and derainers conditioned on what it finds."""
