"""What other programs compute, stored for tests, and how far ours is from it."""
