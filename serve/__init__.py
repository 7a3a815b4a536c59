"""Bundle -> web page and HTTP API, without torch."""
