"""What travels: the node behind gRPC, the client's session, the directory."""
