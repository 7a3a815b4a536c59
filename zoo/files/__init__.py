"""Files and folders that others wrote, read with bounds."""
