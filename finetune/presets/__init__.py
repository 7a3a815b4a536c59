"""Named recipes: each fills in the values that a run was not given, from facts about data, base and
device."""
