"""The development stack: PostgreSQL, Valkey and Pulsar from wheels, started and watched by our own supervisor."""
