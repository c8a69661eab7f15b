"""Rows that models learn from and are judged on: who, as of when, with which label, split by time."""
