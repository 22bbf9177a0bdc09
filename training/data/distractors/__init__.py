"""What looks like rain and is none: lines, façades and documents."""
