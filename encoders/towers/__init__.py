"""Image and text towers, each behind one signature."""
