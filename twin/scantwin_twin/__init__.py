"""The virtual scanner as a service: CT in over gRPC, synthetic PET out. SYNTHETIC, NOT FOR DIAGNOSIS."""

PORT = 50071
"""Where the service listens unless told otherwise; IANA has given this number to nobody."""
