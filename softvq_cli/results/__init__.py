"""What one run is taken through: its stages, its data found again, maps, and what is known of it."""
