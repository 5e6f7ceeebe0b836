"""Damaged models: how they are changed (mutate), the process that tries them (worker), and the process that watches it
(watch).
"""
