"""The steps of a program, a file per kind: how each runs, and how it specialises itself for shapes that it has seen."""
