"""Many small trainings, and models side by side: what decisions were made by."""
