"""What every command stands on: errors, console, disk, versions, cores."""
