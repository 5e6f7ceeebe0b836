"""The gRPC service: thin faces over one engine."""
