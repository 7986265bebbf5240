"""The way back of what an action did."""
