"""The routes that take images, and how their requests are read."""
