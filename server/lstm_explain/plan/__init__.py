"""What runs where, what is kept, how relevance walks back: compiled once per model, explained value and method."""
