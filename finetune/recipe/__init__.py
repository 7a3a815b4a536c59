"""What a run is asked for: the fields of a recipe, their ranges, and the facts it depends on."""
