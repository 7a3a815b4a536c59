"""The deployed graph: how it is traced, joined and written."""
