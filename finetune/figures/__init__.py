"""The figures of a report as SVG: how each looks, and what it draws."""
