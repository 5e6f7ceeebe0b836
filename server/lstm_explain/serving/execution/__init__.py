"""From a query to the engine and back: batches, and the runs that answer them."""
