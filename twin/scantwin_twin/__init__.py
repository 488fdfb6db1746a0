"""The virtual scanner as a service: CT in over gRPC, synthetic PET out. SYNTHETIC, NOT FOR DIAGNOSIS."""

PORT = 50071
"""The service's default port, which IANA has not assigned."""
