"""Models are tried in a process of their own before they are served."""
