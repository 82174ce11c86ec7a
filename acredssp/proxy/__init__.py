"""`acredssp proxy`: an RDP gateway on the public names of acredssp, small enough to be read.

A connection has two legs. The front is the client's, the target leg is ours towards the desktop. `settings` reads the
file, `routing` chooses the target, `leg` logs on there, `connection` is one connection from its accept to its end, and
`gateway` is the process with its listeners.
"""
