"""Importing leads: reading CSV, columns and rows, and who must not be contacted by them."""
