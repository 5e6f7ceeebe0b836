"""The processes of one server: a parent that holds the port, and its workers."""
