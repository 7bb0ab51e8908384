"""Changes to the recipe of training that were tried, each by itself, and the command that repeats any of them."""
