"""Who may be reached now, and what no tool may do: one rule a file."""
