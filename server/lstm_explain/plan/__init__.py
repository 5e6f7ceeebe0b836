"""A plan is made once per model, explained value and method: what runs where, what is kept, how relevance walks back."""
