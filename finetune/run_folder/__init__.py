"""The run folder while it is being written."""
