"""Jobs: launched, watched, stopped."""
