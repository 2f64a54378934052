"""Tools for development: the embedded stack, the simulator of the services, and filling. Not part of the product."""
