"""Clean backgrounds, what is drawn over them that is no rain, and what light and cameras do to them."""
