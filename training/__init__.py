"""The recipe that trains a deraining network."""
