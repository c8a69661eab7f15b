"""Explanations of one answer: which past events and which numbers it rests on, and whether that can be believed."""
