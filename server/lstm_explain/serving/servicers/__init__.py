"""The gRPC services, which convert messages and call the engine."""
