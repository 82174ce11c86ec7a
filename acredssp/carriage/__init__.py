"""Carriages, the protocols that surround a CredSSP handshake on the wire, and their contract for carriages of your own.

A carriage is what the argument `carriage=` takes: `TLS()` of this package, `RDP()` of `acredssp.rdp`, or any object
with the methods of `Carriage`. docs/carriages.md says how to write one.
"""

from acredssp.carriage.base import TLS, Carriage, CarriedHandshake, NewContext, PassedOn

__all__ = ["TLS", "Carriage", "CarriedHandshake", "NewContext", "PassedOn"]
