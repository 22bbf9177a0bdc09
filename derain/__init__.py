"""Takes rain out of photographs."""
