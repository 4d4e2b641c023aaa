"""Outlines of people in boxes: of anybody, or of one person among others."""
