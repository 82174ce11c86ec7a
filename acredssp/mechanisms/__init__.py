"""Authentication mechanisms behind one interface: NTLM and SPNEGO of our own."""
