"""Behind `derain.cli`: what the `derain` command does, step by step."""
