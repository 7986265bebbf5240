"""Dialsheet's adapter on its emulator, over real HTTP."""
