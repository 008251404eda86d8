"""What is stored of videos, how it is written and read."""
