"""The temporal network: clips drawn from stills, a network that fuses frames, its training and its scores."""
