"""The page of `lstm-explain serve --web`, and the JSON calls that it makes: a thin face over the gRPC services."""
