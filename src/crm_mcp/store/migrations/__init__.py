"""The way from each older layout of the state to the newest."""
