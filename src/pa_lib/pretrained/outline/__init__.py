"""Outlines of people in boxes: of one person among others."""
