"""Model folders: the served one, its history, the self-test before it."""
