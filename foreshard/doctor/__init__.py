"""Looks at a whole installation and says how to mend what it finds. Changes nothing.

Each module gathers facts of one thing and judges them; judging is pure.
"""
