"""Leads in sequences: who can be enrolled, one by one, and how they get out again."""
