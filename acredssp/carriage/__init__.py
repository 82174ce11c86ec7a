"""What goes around a CredSSP handshake on the wire, without I/O."""
