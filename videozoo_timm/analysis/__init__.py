"""What a model makes of videos."""
