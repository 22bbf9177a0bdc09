"""What each part of the shipped recipe is worth: small trainings, each with one thing changed."""
