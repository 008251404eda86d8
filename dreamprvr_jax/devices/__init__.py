"""Meshes, processes, memory, and data that stays on devices."""
