"""Bundle -> web page and API. Nothing to run here yet."""
