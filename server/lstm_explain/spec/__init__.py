"""What a caller asks for: methods with their parameters, and composites of rules by layer."""
