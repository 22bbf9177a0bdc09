"""How our figures look, and images put beside one another."""
