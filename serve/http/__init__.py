"""The API and the gate before it."""
