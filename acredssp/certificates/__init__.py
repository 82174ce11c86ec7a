"""Certificates of servers: what one says, which path leads from one to an authority, and for which names it is.

`trust.Trust` asks these modules and turns their answer into a verdict. They know no clock, files or network.
"""
