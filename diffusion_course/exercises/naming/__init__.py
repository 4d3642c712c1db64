"""Name a mistake that no exercise's catalogue has: other arguments, another result, one change in
the formula, or else what can be said of the output."""
