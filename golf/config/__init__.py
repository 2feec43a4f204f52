"""What a run is: its fields, presets and splits, the schedule as plan rows, and the rules' numbers."""
