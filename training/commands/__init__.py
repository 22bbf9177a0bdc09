"""The commands of `python -m training`: arguments and printing; what they do is elsewhere."""
